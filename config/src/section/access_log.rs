//! `[access_log]`.

use crate::{
    model::{
        Located,
        access_log::{AccessLog, Destination, FieldRule, HeaderRules, LineFormat},
    },
    reader::{Table, Value},
    report::Fault,
    section::is_field_name,
    spelled::Spelled,
};
use std::collections::BTreeMap;

/// The access log, where the table is there.
pub(super) fn access_log(root: &Table<'_>) -> Option<AccessLog> {
    if !root.has("access_log") {
        return None;
    }
    let table = root.merged("access_log");
    Some(AccessLog {
        path: path(&table),
        format: word(&table, "format", LineFormat::Json),
        query: word(&table, "query", FieldRule::Drop),
        headers: headers(&table),
    })
}

fn path(table: &Table<'_>) -> Located<Destination> {
    let written = table.path_of("path");
    let standard = || Located {
        value: Destination::StandardOutput,
        at: table.at(),
    };
    written.map_or_else(standard, |Located { value, at }| Located {
        value: if value.as_os_str() == "-" {
            Destination::StandardOutput
        } else {
            Destination::File(value)
        },
        at,
    })
}

fn word<T: Spelled>(table: &Table<'_>, key: &str, default: T) -> T {
    let value = table.get(key);
    value
        .and_then(|value| value.word(T::WORDS, &[]))
        .unwrap_or(default)
}

fn headers(table: &Table<'_>) -> HeaderRules {
    let Some(table) = table.table("headers") else {
        return HeaderRules {
            default: FieldRule::Drop,
            names: BTreeMap::new(),
        };
    };
    let mut names = BTreeMap::new();
    for (name, value) in table.pairs("names") {
        let Some(rule) = value.word(FieldRule::WORDS, &[]) else {
            continue;
        };
        if !is_field_name(&name) {
            let fault = Fault::found("found no name of a header field").expected("letters, digits and `-`");
            value.refuse(&fault.fix("write the name as it stands in a request"));
        } else if names.insert(name.to_ascii_lowercase(), rule).is_some() {
            refuse_twice(&value);
        }
    }
    HeaderRules {
        default: word(&table, "default", FieldRule::Drop),
        names,
    }
}

fn refuse_twice(value: &Value<'_>) {
    let fault = Fault::found("found the same field in another case").expected("each once");
    value.refuse(
        &fault
            .so("it is not clear which one was meant, so the configuration is refused")
            .fix("keep one of the two"),
    );
}
