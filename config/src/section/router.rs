//! `[routers]`.

use crate::{
    address::is_subdomain,
    model::{
        ServiceRef,
        encoded::{EncodedCharacter, EncodedCharacters},
    },
    reader::{NameRule, Named, Table, Value},
    report::{Fault, Place},
    rule::{Rule, RuleError},
    section::{DEFAULT, Kind, Mention, Names, inside::place_in},
};

/// A router as it is written.
pub(crate) struct RouterDraft {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) path: String,
    /// `None` where it was refused.
    pub(crate) rule: Option<Rule>,
    pub(crate) rule_place: Place,
    /// `None` where absent.
    pub(crate) entry_points: Option<Vec<Mention>>,
    /// `None` where absent.
    pub(crate) uplinks: Option<Vec<Mention>>,
    pub(crate) priority: Priority,
    /// As they are written.
    pub(crate) middlewares: Vec<Mention>,
    /// `None` where it was refused.
    pub(crate) service: Option<ServiceRef>,
    pub(crate) refused_encoded: EncodedCharacters,
    /// The router's own choice of TLS options, where it has a `tls` table.
    pub(crate) tls: Option<Mention>,
}

pub(super) fn routers(root: &Table<'_>, names: &mut Names) -> Vec<RouterDraft> {
    root.named("routers", NameRule::Word)
        .iter()
        .map(|named| router(named, names))
        .collect()
}

fn router(named: &Named<'_>, names: &mut Names) -> RouterDraft {
    let table = &named.table;
    let rule_value = table.need("rule", "a rule such as \"Host(`a.example.com`)\"");
    let rule = rule_value.as_ref().and_then(|value| rule(value, Rule::parse));
    RouterDraft {
        name: named.name.clone(),
        place: named.place,
        path: table.path().to_owned(),
        rule_place: rule_value.as_ref().map_or(named.place, Value::place),
        entry_points: entry_points(table),
        uplinks: names.list(Kind::Uplink, table, "uplinks"),
        priority: Priority::read(table, rule.as_ref().map(|rule| length(rule.text()))),
        rule,
        middlewares: names
            .list(Kind::Middleware, table, "middlewares")
            .unwrap_or_default(),
        service: table
            .need("service", "the name of a service")
            .and_then(|value| service_ref(&value, names)),
        refused_encoded: refused_encoded(table),
        tls: tls(table, names),
    }
}

fn refused_encoded(table: &Table<'_>) -> EncodedCharacters {
    let mut refused = EncodedCharacters::REFUSED;
    let Some(written) = table.table("encoded_characters") else {
        return refused;
    };
    for character in EncodedCharacter::ALL {
        match written.flag(character.key()) {
            Some(true) => refused.remove(character),
            Some(false) => refused.insert(character),
            None => {}
        }
    }
    refused
}

/// The names as they stand: the link stage says which kind of entry point was expected.
pub(super) fn entry_points(table: &Table<'_>) -> Option<Vec<Mention>> {
    table.has("entry_points").then(|| {
        let values = table.filled("entry_points", Kind::EntryPoint.label());
        values
            .iter()
            .filter_map(|value| Some(Mention::of(value, value.text()?)))
            .collect()
    })
}

/// The rule that `parse` makes of a text; its faults get their places in the file.
pub(super) fn rule<R>(value: &Value<'_>, parse: impl Fn(&str) -> Result<R, Vec<RuleError>>) -> Option<R> {
    let text = value.text()?;
    match parse(text) {
        Ok(rule) => Some(rule),
        Err(errors) => {
            errors.into_iter().for_each(|error| refuse(value, text, error));
            None
        }
    }
}

/// Refuses a rule at the place in the file where the fault stands.
fn refuse(value: &Value<'_>, text: &str, error: RuleError) {
    let fault = Fault::found(error.found)
        .expected(error.expected)
        .fix(error.remedy);
    match place_in(value.raw(), text, error.offset) {
        Some(inside) => {
            let Place { file, offset } = value.place();
            let place = Place {
                file,
                offset: offset + inside,
            };
            value.refuse_at(place, &fault);
        }
        None => value.refuse(&fault.fix_more(format!("it is at character {} of the rule", error.character))),
    }
}

/// How a router ranks: higher goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// The operator says so.
    Chosen(i64),
    /// By its rule.
    OfRule(i64),
}

impl Priority {
    /// As it is written, or else that of the rule; 0 is not chosen.
    pub(super) fn read(table: &Table<'_>, of_rule: Option<i64>) -> Self {
        let written = table
            .get("priority")
            .and_then(|value| value.integer(i64::MIN..=i64::MAX));
        match written {
            None | Some(0) => Self::OfRule(of_rule.unwrap_or(0)),
            Some(chosen) => Self::Chosen(chosen),
        }
    }

    /// The number.
    pub(crate) fn rank(self) -> i64 {
        match self {
            Self::Chosen(rank) | Self::OfRule(rank) => rank,
        }
    }
}

/// The rank that a rule of this text has by itself.
pub(super) fn length(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

/// A service of this file, or `NAME@multicluster`; a name of this file is noted.
pub(super) fn service_ref(value: &Value<'_>, names: &mut Names) -> Option<ServiceRef> {
    let text = value.text()?;
    match text.split_once('@') {
        None => Some(ServiceRef::Local(names.mention(Kind::Service, value, text).name)),
        Some((uplink, "multicluster")) if is_subdomain(uplink) => {
            Some(ServiceRef::Multicluster(uplink.to_owned()))
        }
        Some((uplink, "multicluster")) => {
            let fault = Fault::found(format!("found `{uplink}` before `@multicluster`"))
                .expected("the name of an uplink: a lower-case RFC 1123 subdomain")
                .so("no child can advertise it");
            value.refuse(&fault.fix("write the name as the child advertises it"));
            None
        }
        Some((_, provider)) => {
            let fault = Fault::found(format!("found `@{provider}`")).expected("`@multicluster` or no `@`");
            value.refuse(&fault.fix("name a service of this configuration without `@`"));
            None
        }
    }
}

fn tls(table: &Table<'_>, names: &mut Names) -> Option<Mention> {
    let tls = table.table("tls")?;
    let written = tls.get("options").and_then(|value| {
        let name = value.text()?;
        Some(names.mention(Kind::TlsOptions, &value, name))
    });
    let absent = || Mention {
        name: DEFAULT.to_owned(),
        place: tls.place(),
        path: tls.path().to_owned(),
    };
    Some(written.unwrap_or_else(absent))
}
