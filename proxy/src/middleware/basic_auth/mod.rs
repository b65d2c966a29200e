//! `basic_auth`: a name and a password for each request.
//!
//! Whether a name is known is not told by the time that an answer takes: an unknown one costs a verification too. A password
//! that was verified is believed for a while without another one (`cache.rs`).

mod cache;
mod credentials;
mod hashes;
mod verifier;

use super::{Around, Making, Next};
use crate::{
    fault::Fault,
    http::{
        body::RequestBody,
        call::{AnswerBody, Answering},
    },
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{Located, middleware::basic_auth},
    password,
};
use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};
use verifier::{Busy, Known, Verifier};

/// Faults of a users' file that are told at once.
const FAULTS_TOLD: usize = 20;

/// The compiled middleware.
pub(super) struct BasicAuth {
    users: HashMap<String, Known>,
    /// What the passwords of unknown names are verified by.
    decoys: Vec<Known>,
    names: RandomState,
    challenge: HeaderValue,
    remove_header: bool,
    header_field: Option<HeaderName>,
    verifier: Arc<Verifier>,
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// Who a request is from.
enum Verdict {
    /// This user.
    User(String),
    /// Nobody that may pass.
    Nobody,
}

impl BasicAuth {
    /// Compiles it.
    ///
    /// # Errors
    /// Where its file cannot be read, or a line of it is wrong.
    pub(super) fn new(settings: &basic_auth::BasicAuth, making: Making<'_>) -> Result<Self, Vec<Diagnostic>> {
        let mut users: HashMap<String, Known> = HashMap::new();
        let of_file = match &settings.users_file {
            Some(file) => of_file(file, making)?,
            None => Vec::new(),
        };
        for user in settings.users.iter().cloned().chain(of_file) {
            users.insert(user.name, Known::new(user.hash));
        }
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", settings.realm);
        Ok(Self {
            decoys: users.values().cloned().collect(),
            users,
            names: RandomState::new(),
            challenge: HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Basic")),
            remove_header: settings.remove_header,
            header_field: settings
                .header_field
                .as_deref()
                .and_then(|name| HeaderName::try_from(name).ok()),
            // No middleware is called so: all share one.
            verifier: making.kept.state("", |_: &Verifier| true, Verifier::start),
        })
    }

    async fn verdict(&self, headers: &HeaderMap, client: IpAddr) -> Result<Verdict, Busy> {
        let Some(credentials) = credentials::of(headers) else {
            return Ok(Verdict::Nobody);
        };
        let user = self.users.get(&credentials.name);
        let Some(known) = user.or_else(|| self.decoy(&credentials.name)) else {
            return Ok(Verdict::Nobody);
        };
        let verified = self.verifier.verify(known, credentials.password, client).await?;
        Ok(if verified && user.is_some() {
            Verdict::User(credentials.name)
        } else {
            Verdict::Nobody
        })
    }

    /// The same one each time for a name, as a user's own would be.
    fn decoy(&self, name: &str) -> Option<&Known> {
        let count = u64::try_from(self.decoys.len()).ok().filter(|count| *count > 0)?;
        let index = self.names.hash_one(name) % count;
        self.decoys.get(usize::try_from(index).ok()?)
    }

    async fn run(
        &self,
        request: Request<RequestBody>,
        next: Next<'_>,
    ) -> Result<Response<AnswerBody>, Fault> {
        let (mut head, body) = request.into_parts();
        let user = match self.verdict(&head.headers, next.facts.client).await {
            Ok(Verdict::User(user)) => user,
            Ok(Verdict::Nobody) => return Ok(self.refusal()),
            Err(Busy) => return Ok(busy()),
        };
        next.call.user(&user);
        if let Some(field) = &self.header_field {
            tell(&mut head.headers, field, &user);
        }
        if self.remove_header {
            head.headers.remove(AUTHORIZATION);
        }
        next.run(Request::from_parts(head, body)).await
    }

    fn refusal(&self) -> Response<AnswerBody> {
        let mut answer = Fault::Unauthorized.into_answer();
        answer
            .headers_mut()
            .insert(WWW_AUTHENTICATE, self.challenge.clone());
        answer.map(|body| AnswerBody::Own(Some(body)))
    }
}

fn busy() -> Response<AnswerBody> {
    let mut answer = Fault::AuthBusy.into_answer();
    answer
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer.map(|body| AnswerBody::Own(Some(body)))
}

/// Tells servers the user; what the client sent by that name goes, in every spelling that a server may take for it.
fn tell(headers: &mut HeaderMap, field: &HeaderName, user: &str) {
    let fold = |name: &HeaderName| name.as_str().replace(['_', '.'], "-");
    let own = fold(field);
    let spellings: Vec<HeaderName> = headers.keys().filter(|name| fold(name) == own).cloned().collect();
    for name in spellings {
        headers.remove(name);
    }
    if let Ok(user) = HeaderValue::from_bytes(user.as_bytes()) {
        headers.insert(field, user);
    }
}

/// The users of a file.
fn of_file(file: &Located<PathBuf>, making: Making<'_>) -> Result<Vec<password::User>, Vec<Diagnostic>> {
    let path = file.value.display();
    let wrong = |what: String| Diagnostic {
        at: file.at.clone(),
        message: format!("`{path}` {what}; the configuration is refused; write it by `htpasswd -B`"),
    };
    let bytes = making.files.read(file).map_err(|problem| vec![problem])?;
    let text = String::from_utf8(bytes).map_err(|_| vec![wrong("is no UTF-8 text".to_owned())])?;
    let users = password::users(&text).map_err(|faults| {
        let told = faults.iter().take(FAULTS_TOLD);
        told.map(|(line, fault)| wrong(format!("line {line}: {fault}")))
            .collect::<Vec<_>>()
    })?;
    if users.is_empty() {
        return Err(vec![wrong("holds no user, expected at least one".to_owned())]);
    }
    Ok(users)
}

impl Around for BasicAuth {
    fn call<'a>(&'a self, request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(self.run(request, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_the_verified_user_and_nobody_elses_word() {
        let field = HeaderName::from_static("x-user");
        let mut headers = HeaderMap::new();
        for name in ["x-user", "x_user", "x.user", "x-user-id"] {
            let name = HeaderName::try_from(name).expect("a name");
            headers.insert(name, HeaderValue::from_static("root"));
        }
        tell(&mut headers, &field, "jörg");
        assert_eq!(headers["x-user"].as_bytes(), "jörg".as_bytes());
        assert_eq!(headers["x-user-id"], "root", "another field");
        assert_eq!(headers.len(), 2, "{headers:?}");
    }
}
