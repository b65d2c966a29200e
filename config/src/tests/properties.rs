use super::{one, source};
use crate::{diagnostic::Diagnostic, parse};
use proptest::prelude::*;

const SEEDS: [&str; 5] = [
    include_str!("every_key.toml"),
    include_str!("../../examples/minimal.toml"),
    include_str!("../../examples/gateway.toml"),
    include_str!("../../examples/child.toml"),
    include_str!("../../examples/parent.toml"),
];

/// Every place is a place of the file, or just behind its end.
fn inside(text: &str, diagnostics: &[Diagnostic]) -> Result<(), TestCaseError> {
    let lines: Vec<usize> = text.split('\n').map(|line| line.chars().count()).collect();
    for Diagnostic { at, message } in diagnostics {
        prop_assert_eq!(&*at.file, "s.toml");
        let length = lines.get(at.line as usize - 1);
        prop_assert!(
            length.is_some_and(|length| at.column as usize <= length + 1),
            "{}: {} in {:?}",
            at,
            message,
            text
        );
    }
    Ok(())
}

fn check(text: &str) -> Result<(), TestCaseError> {
    match one(text) {
        Ok(config) => inside(text, &config.warnings),
        Err(errors) => {
            prop_assert!(!errors.is_empty());
            inside(text, &errors)
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_inside_itself(text in "\\PC{0,300}|[a-z\\[\\]{}=\"'.,#\n\r\t\\\\ 0-9é]{0,200}") {
        check(&text)?;
    }

    #[test]
    fn damaged_configurations_are_refused_inside_themselves(
        seed in 0..SEEDS.len(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, "\\PC{0,6}|[\\[\\]{}=\"'.,#\n `]{0,3}"), 1..4),
    ) {
        let mut letters: Vec<char> = SEEDS[seed].chars().collect();
        for (at, length, put) in &cuts {
            let from = at.index(letters.len() + 1);
            let to = (from + length).min(letters.len());
            letters.splice(from..to, put.chars());
        }
        check(&letters.iter().collect::<String>())?;
    }

    #[test]
    fn values_of_wrong_types_never_panic(
        table in prop::sample::select(crate::reference::reference()),
        value in prop::sample::select(vec!["1", "-1", "\"\"", "\"a\"", "true", "[]", "[1]", "[\"a\"]", "{}", "{ a = 1 }", "1.5", "1979-05-27", "[{}]", "99999999999999999999", "0x10"]),
    ) {
        let key = table.key.replace("NAME", "n").replace("[]", "");
        check(&format!("{key} = {value}\n"))?;
    }

    #[test]
    fn cutting_a_configuration_in_two_files_never_panics(seed in 0..SEEDS.len(), at: prop::sample::Index) {
        let lines: Vec<&str> = SEEDS[seed].lines().collect();
        let (head, tail) = lines.split_at(at.index(lines.len() + 1));
        let sources = [source("a", &head.join("\n")), source("b", &tail.join("\n"))];
        if let Err(errors) = parse(&sources) {
            prop_assert!(!errors.is_empty());
        }
    }
}

#[test]
fn every_truncation_of_an_example_is_parsed_or_refused() {
    for text in SEEDS {
        // Reading all of a long text for each of its bytes takes minutes: of those every seventh.
        let step = if text.len() > 4096 { 7 } else { 1 };
        for end in (0..=text.len())
            .rev()
            .step_by(step)
            .filter(|end| text.is_char_boundary(*end))
        {
            check(&text[..end]).expect("inside");
        }
    }
}
