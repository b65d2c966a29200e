//! `[routers]`.

use crate::{
    address::is_subdomain,
    model::ServiceRef,
    reader::{NameRule, Named, Table, Value},
    report::{Fault, Place},
    rule::{Rule, RuleError},
    section::{DEFAULT, Kind, Mention, Names},
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
    pub(crate) priority: i64,
    /// As they are written.
    pub(crate) middlewares: Vec<Mention>,
    /// `None` where it was refused.
    pub(crate) service: Option<ServiceRef>,
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
    let priority = table
        .get("priority")
        .and_then(|value| value.integer(i64::MIN..=i64::MAX))
        .unwrap_or(0);
    RouterDraft {
        name: named.name.clone(),
        place: named.place,
        path: table.path().to_owned(),
        rule_place: rule_value.as_ref().map_or(named.place, Value::place),
        entry_points: entry_points(table),
        uplinks: names.list(Kind::Uplink, table, "uplinks"),
        priority: match (priority, &rule) {
            (0, Some(rule)) => i64::try_from(rule.text().chars().count()).unwrap_or(i64::MAX),
            (explicit, _) => explicit,
        },
        rule,
        middlewares: names
            .list(Kind::Middleware, table, "middlewares")
            .unwrap_or_default(),
        service: table
            .need("service", "the name of a service")
            .and_then(|value| service_ref(&value, names)),
        tls: tls(table, names),
    }
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
    match parse(value.text()?) {
        Ok(rule) => Some(rule),
        Err(errors) => {
            let inside = Inside::of(value);
            errors.into_iter().for_each(|error| inside.refuse(value, error));
            None
        }
    }
}

/// Where the text of a string begins in the file, if offsets in the one are offsets in the other.
struct Inside(Option<usize>);

impl Inside {
    fn of(value: &Value<'_>) -> Self {
        let raw = value.raw();
        let plain = !raw.contains(['\\', '\n']) && !raw.starts_with("\"\"\"") && !raw.starts_with("'''");
        Self((plain && raw.starts_with(['"', '\''])).then(|| value.place().offset + 1))
    }

    fn refuse(&self, value: &Value<'_>, error: RuleError) {
        let fault = Fault::found(error.found)
            .expected(error.expected)
            .fix(error.remedy);
        match self.0 {
            Some(start) => {
                let place = Place {
                    file: value.place().file,
                    offset: start + error.offset,
                };
                value.refuse_at(place, &fault);
            }
            None => {
                value.refuse(&fault.fix_more(format!("it is at character {} of the rule", error.character)))
            }
        }
    }
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
