//! The grammar of rules, descended: written from `docs/routing.md`, sharing nothing with the parser.

use std::{iter::Peekable, str::CharIndices};

/// A call of a language: its name, and how many arguments it takes.
pub(crate) type Call = (&'static str, std::ops::RangeInclusive<usize>);

/// Those of requests.
pub(crate) const HTTP: [Call; 11] = [
    ("Host", 1..=1),
    ("HostRegexp", 1..=1),
    ("Path", 1..=1),
    ("PathPrefix", 1..=1),
    ("PathRegexp", 1..=1),
    ("Method", 1..=1),
    ("Header", 2..=2),
    ("HeaderRegexp", 2..=2),
    ("Query", 1..=2),
    ("QueryRegexp", 1..=2),
    ("ClientIP", 1..=1),
];

/// Those of connections.
pub(crate) const TCP: [Call; 4] = [
    ("HostSNI", 1..=1),
    ("HostSNIRegexp", 1..=1),
    ("ClientIP", 1..=1),
    ("ALPN", 1..=1),
];

/// Why a rule is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It cannot be read.
    Syntax,
    /// It can, but some call is not of the language, or not called so.
    Call,
}

/// A rule.
pub(crate) enum Tree {
    /// The call of this number, in the order of the text.
    Leaf(usize),
    Not(Box<Tree>),
    All(Vec<Tree>),
    Any(Vec<Tree>),
}

impl Tree {
    /// How many calls it has.
    pub(crate) fn leaves(&self) -> usize {
        match self {
            Self::Leaf(_) => 1,
            Self::Not(inner) => inner.leaves(),
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::leaves).sum(),
        }
    }

    /// Whether it holds where its calls answer so.
    pub(crate) fn holds(&self, answers: &[bool]) -> bool {
        match self {
            Self::Leaf(number) => answers[*number],
            Self::Not(inner) => !inner.holds(answers),
            Self::All(parts) => parts.iter().all(|part| part.holds(answers)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(answers)),
        }
    }
}

/// The tree of a text.
pub(crate) fn read(text: &str, calls: &[Call]) -> Result<Tree, Why> {
    if text.len() > 8192 {
        return Err(Why::Syntax);
    }
    let mut reader = Reader {
        letters: text.char_indices().peekable(),
        calls,
        leaves: 0,
        depth: 0,
        strange: false,
    };
    let tree = reader.any().ok_or(Why::Syntax)?;
    match (reader.peek(), reader.strange) {
        (Some(_), _) => Err(Why::Syntax),
        (None, true) => Err(Why::Call),
        (None, false) => Ok(tree),
    }
}

struct Reader<'t> {
    letters: Peekable<CharIndices<'t>>,
    calls: &'t [Call],
    leaves: usize,
    depth: usize,
    /// Whether a call was none of the language.
    strange: bool,
}

impl Reader<'_> {
    /// The next letter that is no space.
    fn peek(&mut self) -> Option<char> {
        while self
            .letters
            .next_if(|(_, letter)| letter.is_whitespace())
            .is_some()
        {}
        self.letters.peek().map(|(_, letter)| *letter)
    }

    /// Whether the sign stands here; it is taken then.
    fn takes(&mut self, sign: &str) -> Option<bool> {
        let mut signs = sign.chars();
        if self.peek() != signs.next() {
            return Some(false);
        }
        self.letters.next();
        // Half of a sign is none.
        signs
            .all(|sign| self.letters.next().is_some_and(|(_, letter)| letter == sign))
            .then_some(true)
    }

    fn any(&mut self) -> Option<Tree> {
        let mut parts = vec![self.all()?];
        while self.takes("||")? {
            parts.push(self.all()?);
        }
        Some(Tree::Any(parts))
    }

    fn all(&mut self) -> Option<Tree> {
        let mut parts = vec![self.one()?];
        while self.takes("&&")? {
            parts.push(self.one()?);
        }
        Some(Tree::All(parts))
    }

    fn one(&mut self) -> Option<Tree> {
        self.depth += 1;
        // Far deeper than any rule that is taken, and not so deep that this stack ends.
        let tree = match self.peek()? {
            _ if self.depth > 1000 => None,
            '!' => {
                self.letters.next();
                self.one().map(|tree| Tree::Not(Box::new(tree)))
            }
            '(' => {
                self.letters.next();
                let inner = self.any()?;
                self.takes(")")?.then_some(inner)
            }
            _ => self.call(),
        };
        self.depth -= 1;
        tree
    }

    fn call(&mut self) -> Option<Tree> {
        let mut name = String::new();
        while let Some((_, letter)) = self.letters.next_if(|(_, letter)| letter.is_ascii_alphanumeric()) {
            name.push(letter);
        }
        if !name.starts_with(|first: char| first.is_ascii_alphabetic()) || !self.takes("(")? {
            return None;
        }
        let mut arguments = Vec::new();
        if !self.takes(")")? {
            loop {
                arguments.push(self.text()?);
                if self.takes(")")? {
                    break;
                }
                if !self.takes(",")? {
                    return None;
                }
            }
        }
        let (lower, upper) = (name.to_lowercase(), name.to_uppercase());
        let known = self.calls.iter().find(|(known, _)| known.to_lowercase() == lower);
        let spelled = known.is_some_and(|(known, _)| {
            let title = format!("{}{}", &upper[..1], &lower[1..]);
            [*known, &lower, &upper, &title].contains(&name.as_str())
        });
        let counted = known.is_some_and(|(_, count)| count.contains(&arguments.len()));
        self.strange |= !spelled || !counted || arguments.iter().any(String::is_empty);
        self.leaves += 1;
        Some(Tree::Leaf(self.leaves - 1))
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.peek().filter(|quote| ['`', '"'].contains(quote))?;
        self.letters.next();
        let mut text = String::new();
        loop {
            let (_, letter) = self.letters.next()?;
            if letter == quote {
                return Some(text);
            }
            if letter != '\\' || quote == '`' {
                text.push(letter);
                continue;
            }
            text.push(match self.letters.next()?.1 {
                same @ ('\\' | '"') => same,
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                _ => return None,
            });
        }
    }
}
