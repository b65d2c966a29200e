//! `basic_auth` with the hashes that `htpasswd` and `argon2` write, inline and from a file that changes.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, entry_point, local, service};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::path::Path;
use std::process::Command;

on_both_drivers!(
    users_of_htpasswd_and_argon2_get_in_and_nobody_else,
    servers_learn_the_user_and_not_the_password,
    a_users_file_that_changes_counts_and_a_broken_one_does_not,
    the_access_log_names_verified_users_alone,
    a_password_that_was_verified_costs_no_second_verification,
);

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot be run")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// `NAME:HASH` as `htpasswd` writes it.
fn htpasswd(flags: &[&str], name: &str, password: &str) -> Result<String> {
    output(
        Command::new("htpasswd")
            .arg("-nb")
            .args(flags)
            .args([name, password]),
    )
}

fn argon2(name: &str, password: &str) -> Result<String> {
    let script = format!("printf %s {password} | argon2 somesalt -id -e -t 2 -m 10 -p 1");
    let hash = output(Command::new("sh").args(["-c", &script]))?;
    Ok(format!("{name}:{hash}"))
}

fn body(keys: &str) -> String {
    entry_point("")
        + "[routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"backend\"\nmiddlewares = [\"staff\"]\n"
        + &service("backend", &[&backend_url()], "")
        + &format!("[middlewares.staff.basic_auth]\n{keys}\n")
}

fn ask(case: &Case, credentials: Option<&str>) -> Result<Answer> {
    let mut curl = Curl::new(&case.ns);
    if let Some(credentials) = credentials {
        curl = curl.args(&["-u", credentials]);
    }
    curl.get(&format!("http://127.0.0.1:{PORT}/"))
}

fn counted(gateway: &Gateway, code: &str) -> Result<u64> {
    let status = gateway.status()?;
    let count = status
        .pointer(&format!("/counters/{code}"))
        .and_then(serde_json::Value::as_u64);
    count.with_context(|| format!("`{code}` is not in {status}"))
}

fn users_of_htpasswd_and_argon2_get_in_and_nobody_else(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let users = [
        htpasswd(&["-B", "-C", "5"], "bcrypt", "one two:three")?,
        htpasswd(&["-m"], "apr1", "grün")?,
        htpasswd(&["-s"], "sha", "four")?,
        argon2("argon2", "five")?,
    ];
    let gateway = case.gateway(&body(&format!("users = {users:?}")))?;
    let refused = |answer: Answer| -> Result<()> {
        let answer = answer.expect(401)?;
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        ensure!(challenge.starts_with("Basic realm=\"sallyport\""), "{challenge}");
        Ok(())
    };
    for (name, password) in [
        ("bcrypt", "one two:three"),
        ("apr1", "grün"),
        ("sha", "four"),
        ("argon2", "five"),
    ] {
        for _ in 0..2 {
            ask(case, Some(&format!("{name}:{password}")))?.expect(200)?;
        }
        refused(ask(case, Some(&format!("{name}:{password}x")))?)?;
        refused(ask(case, Some(&format!("{name}:")))?)?;
    }
    refused(ask(case, None)?)?;
    refused(ask(case, Some("nobody:four"))?)?;
    refused(ask(case, Some("sha:one two:three"))?)?;
    ensure!(server.seen.requests().len() == 8, "{:?}", server.seen.requests());
    ensure!(counted(&gateway, "unauthorized")? == 11);
    Ok(())
}

fn servers_learn_the_user_and_not_the_password(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let user = htpasswd(&["-s"], "joe", "four")?;
    let keys = format!("users = [{user:?}]\nremove_header = true\nheader_field = \"X-User\"");
    let _gateway = case.gateway(&body(&keys))?;
    // With one user there is one hash that an unknown name's password is tried by: it lets nobody in.
    for nobody in ["root:four", ":four", "JOE:four"] {
        ask(case, Some(nobody))?.expect(401)?;
    }
    let curl = Curl::new(&case.ns).args(&["-u", "joe:four"]);
    let curl = curl
        .header("X-User: root")
        .header("x_user: root")
        .header("X-User: admin");
    curl.get(&format!("http://127.0.0.1:{PORT}/"))?.expect(200)?;
    let seen = server.seen.requests().join("\n").to_ascii_lowercase();
    ensure!(seen.contains("x-user: joe"), "{seen}");
    ensure!(
        !seen.contains("root") && !seen.contains("admin") && !seen.contains("authorization"),
        "{seen}"
    );
    Ok(())
}

fn replace(file: &Path, text: &str) -> Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text)?;
    Ok(std::fs::rename(beside, file)?)
}

fn a_users_file_that_changes_counts_and_a_broken_one_does_not(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let file = case.dir().join("users");
    replace(&file, &format!("# staff\n{}\n", htpasswd(&["-s"], "joe", "old")?))?;
    let inline = htpasswd(&["-s"], "ann", "inline")?;
    let keys = format!("users = [{inline:?}]\nusers_file = \"{}\"", file.display());
    let gateway = case.gateway(&body(&keys))?;
    ask(case, Some("joe:old"))?.expect(200)?;
    ask(case, Some("ann:inline"))?.expect(200)?;
    let both = format!(
        "{}\n{}\n",
        htpasswd(&["-s"], "joe", "new")?,
        htpasswd(&["-s"], "ann", "file")?
    );
    replace(&file, &both)?;
    gateway.settle(200, || Ok(ask(case, Some("joe:new"))?.status))?;
    ask(case, Some("joe:old"))?.expect(401)?;
    ask(case, Some("ann:file"))?.expect(200)?;
    ask(case, Some("ann:inline"))?.expect(401)?;
    replace(&file, "joe:not a hash\n")?;
    let told = || -> Result<Option<()>> {
        Ok(gateway
            .status()?
            .to_string()
            .contains("no hash known here")
            .then_some(()))
    };
    sallyport_tests::wait::until(
        std::time::Duration::from_secs(10),
        "the broken file is told of",
        told,
    )?;
    ask(case, Some("joe:new"))?.expect(200)?;
    ask(case, Some("joe:not a hash"))?.expect(401)?;
    let log = gateway.proc.log();
    ensure!(
        log.contains("file taken") && !log.to_lowercase().contains("tls file"),
        "{log}"
    );
    Ok(())
}

fn the_access_log_names_verified_users_alone(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let (file, user) = (case.dir().join("access.json"), htpasswd(&["-s"], "joe", "four")?);
    // Its middlewares stand before nothing: 404, and the user is known all the same.
    let empty = "[entry_points.empty]\naddress = \"127.0.0.1:8001\"\nmiddlewares = [\"staff\"]\n";
    let log = format!("[access_log]\npath = \"{}\"\n", file.display());
    let mut gateway = case.gateway(&(body(&format!("users = [{user:?}]")) + empty + &log))?;
    ask(case, Some("joe:four"))?.expect(200)?;
    ask(case, Some("joe:five"))?.expect(401)?;
    ask(case, None)?.expect(401)?;
    let curl = Curl::new(&case.ns).args(&["-u", "joe:four"]);
    curl.get("http://127.0.0.1:8001/")?.expect(404)?;
    gateway.stop()?;
    let text = std::fs::read_to_string(&file)?;
    ensure!(text.lines().count() == 4, "{text}");
    for line in text.lines() {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        let user = entry.get("user").and_then(serde_json::Value::as_str);
        let passed = entry.get("status").and_then(serde_json::Value::as_u64) != Some(401);
        ensure!(user == passed.then_some("joe"), "{line}");
    }
    Ok(())
}

/// Without what was verified lately, so many verifications of this cost would take minutes, and curl gives up.
fn a_password_that_was_verified_costs_no_second_verification(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let user = htpasswd(&["-B", "-C", "11"], "joe", "four")?;
    let _gateway = case.gateway(&body(&format!("users = [{user:?}]")))?;
    ask(case, Some("joe:four"))?.expect(200)?;
    let urls = vec![format!("http://127.0.0.1:{PORT}/"); 800];
    let mut many = Curl::new(&case.ns).args(&["-u", "joe:four", "--fail-early", "-f"]);
    for url in urls.iter().skip(1) {
        many = many.arg(url.as_str());
    }
    let answer = many.get(&format!("http://127.0.0.1:{PORT}/"))?;
    ensure!(answer.exit == 0, "{}: {}", answer.exit, answer.complaint);
    Ok(())
}
