//! `basic_auth`.

use super::{MiddlewareDraft, field_name::writable};
use crate::{
    model::middleware::{Middleware, basic_auth::BasicAuth},
    password::{self, USERS_MAX, User},
    reader::Table,
    report::Fault,
    section::Names,
};

const REALM: &str = "sallyport";

/// Reads its table.
pub(super) fn read(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    let read = BasicAuth {
        users: users(table),
        users_file: table.path_of("users_file"),
        realm: table
            .get("realm")
            .and_then(|value| value.parsed(realm))
            .unwrap_or_else(|| REALM.to_owned()),
        remove_header: table.flag("remove_header").unwrap_or(false),
        header_field: table.get("header_field").and_then(|value| value.parsed(writable)),
    };
    if !table.has("users") && !table.has("users_file") && !table.is_excused() {
        let fault = Fault::found("found no user").expected("`users` or `users_file`");
        table.refuse(
            &fault
                .so("nobody would get in")
                .fix("name users with their hashed passwords"),
        );
    }
    Some(MiddlewareDraft::made(Middleware::BasicAuth(read)))
}

fn users(table: &Table<'_>) -> Vec<User> {
    let mut found: Vec<User> = Vec::new();
    for value in table.filled("users", "users with their hashed passwords") {
        // No message quotes the text: a plain password may stand where a hash should.
        let wrong = |fault: password::UserFault| {
            Fault::found(fault.found)
                .expected(fault.expected)
                .fix("write it anew by `htpasswd -nB NAME`")
        };
        let Some(user) = value.parsed(|text| password::user(text).map_err(wrong)) else {
            continue;
        };
        if found.iter().any(|known| known.name == user.name) {
            let fault =
                Fault::found(format!("found `{}` a second time", user.name)).expected("each user once");
            value.refuse(
                &fault
                    .so("which password counts would be anybody's guess")
                    .fix("remove one of them"),
            );
        }
        if found.len() == USERS_MAX {
            let fault = Fault::found("found one more user").expected(format!("at most {USERS_MAX}"));
            value.refuse(&fault.fix("put the users into several middlewares"));
            break;
        }
        found.push(user);
    }
    found
}

/// It goes out inside quotes.
fn realm(text: &str) -> Result<String, Fault> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.is_empty() || text.len() > 256 || !text.bytes().all(plain) {
        return Err(Fault::found("found no realm")
            .expected("up to 256 letters, digits, spaces and signs, without `\"` and `\\`")
            .fix("write it like `staff`"));
    }
    Ok(text.to_owned())
}
