//! Expressions that are taken and what they come to, and the places of what is wrong.

use super::*;
use proptest::prelude::*;

fn holds(text: &str, network: f64, codes: f64, latency: f64) -> bool {
    let condition = Condition::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    condition.holds(|measure| match measure {
        Measure::NetworkErrorRatio => network,
        Measure::ResponseCodeRatio { .. } => codes,
        Measure::LatencyAtQuantileMs { .. } => latency,
    })
}

#[test]
fn comparisons_hold_by_their_numbers() {
    for (text, measured, expected) in [
        ("NetworkErrorRatio() > 0.30", 0.31, true),
        ("NetworkErrorRatio() > 0.30", 0.30, false),
        ("NetworkErrorRatio() >= 0.30", 0.30, true),
        ("NetworkErrorRatio()<1", 0.99, true),
        ("NetworkErrorRatio() <= 0.5", 0.51, false),
        ("NetworkErrorRatio() == 0", 0.0, true),
        ("NetworkErrorRatio() != 0", 0.0, false),
    ] {
        assert_eq!(holds(text, measured, 0.0, 0.0), expected, "{text} of {measured}");
    }
}

#[test]
fn and_binds_closer_than_or_and_not_closest() {
    let all = "NetworkErrorRatio() > 0.5 || ResponseCodeRatio(500, 600, 0, 600) > 0.25 && LatencyAtQuantileMS(50.0) > 100";
    assert!(holds(all, 0.6, 0.0, 0.0));
    assert!(holds(all, 0.0, 0.3, 101.0));
    assert!(!holds(all, 0.0, 0.3, 100.0));
    let grouped = format!("({}", all.replacen("&&", ") &&", 1));
    assert!(!holds(&grouped, 0.6, 0.0, 0.0));
    assert!(holds("!(NetworkErrorRatio() > 0.5)", 0.1, 0.0, 0.0));
    assert!(!holds(
        "!(NetworkErrorRatio() > 0.5) && LatencyAtQuantileMS(99) > 1",
        0.1,
        0.0,
        0.0
    ));
    assert!(holds(
        "!NetworkErrorRatio() > 0.5 || LatencyAtQuantileMS(99) > 1",
        0.1,
        0.0,
        0.0
    ));
}

#[test]
fn arguments_are_kept() {
    let condition = Condition::parse("ResponseCodeRatio(500, 600, 200, 600) > 0.25").expect("well formed");
    let measure = condition.measures().next().expect("one");
    let range = |from, to| StatusRange { from, to };
    let expected = Measure::ResponseCodeRatio {
        counted: range(500, 600),
        among: range(200, 600),
    };
    assert_eq!(measure, expected);
    assert!(range(500, 600).contains(599) && !range(500, 600).contains(600));
}

#[test]
fn what_is_wrong_has_its_place() {
    for (text, character, words) in [
        ("", 1, "found the end"),
        ("NetworkErrorRatio()", 20, "`>`"),
        ("NetworkErrorRatio() > ", 23, "a number"),
        ("NetworkErrorRatio > 1", 19, "`(`"),
        ("NetworkErrorRatio(1) > 1", 19, "no argument"),
        ("NetworkErrorRatios() > 1", 1, "found `NetworkErrorRatios`"),
        ("NetworkErrorRatio() > 0.1 NetworkErrorRatio() > 0.1", 27, "`&&`"),
        ("NetworkErrorRatio() > 0.1 &&", 29, "found the end"),
        ("(NetworkErrorRatio() > 0.1", 1, "without its `)`"),
        ("NetworkErrorRatio() > 0.1)", 26, "without its `(`"),
        ("LatencyAtQuantileMS(101) > 1", 21, "from 0 to 100"),
        ("ResponseCodeRatio(500, 500, 0, 600) > 1", 19, "is empty"),
        ("ResponseCodeRatio(500, 600) > 1", 27, "`,`"),
        ("ResponseCodeRatio(1001, 1002, 0, 600) > 1", 19, "a status"),
        ("ResponseCodeRatio(0.5, 600, 0, 600) > 1", 19, "a status"),
        ("NetworkErrorRatio() > 1e9", 24, "found `e9`"),
        ("NetworkErrorRatio() > -1", 23, "found `-`"),
        ("> 1", 1, "found a comparison"),
        ("NetworkErrorRatio() & 1", 21, "found `&`"),
    ] {
        let errors = Condition::parse(text).expect_err(text);
        let error = errors.first().expect("one");
        assert_eq!(error.character, character, "{text}: {error}");
        assert!(error.to_string().contains(words), "{text}: {error}");
    }
}

#[test]
fn size_is_bounded_and_its_limit_is_taken() {
    let one = "NetworkErrorRatio() > 1";
    let many = |count: usize| vec![one; count].join(" || ");
    assert!(Condition::parse(&many(CONDITION_MEASURES_MAX)).is_ok());
    assert!(Condition::parse(&many(CONDITION_MEASURES_MAX + 1)).is_err());
    let deep = |count: usize| format!("{}{one}{}", "(".repeat(count), ")".repeat(count));
    assert!(Condition::parse(&deep(CONDITION_DEPTH_MAX)).is_ok());
    assert!(Condition::parse(&deep(CONDITION_DEPTH_MAX + 1)).is_err());
    let long = |bytes: usize| format!("{one}{}", " ".repeat(bytes - one.len()));
    assert!(Condition::parse(&long(CONDITION_BYTES_MAX)).is_ok());
    assert!(Condition::parse(&long(CONDITION_BYTES_MAX + 1)).is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in "[ ()!&|<>=.,0-9A-Za-zäö€-]{0,80}") {
        let _ = Condition::parse(&text).map(|condition| condition.holds(|_| 0.5));
    }

    #[test]
    fn pieces_in_any_order_never_panic(pieces in prop::collection::vec(prop::sample::select(vec![
        "NetworkErrorRatio()", "ResponseCodeRatio(500,600,0,600)", "LatencyAtQuantileMS(50)",
        ">", "<=", "0.5", "&&", "||", "!", "(", ")", ",",
    ]), 0..24)) {
        let _ = Condition::parse(&pieces.join(" ")).map(|condition| condition.holds(|_| 0.5));
    }
}
