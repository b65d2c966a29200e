//! One policy, two judges: the gate tries, confirms and gives up policies, and accept goes with it. All clients come over
//! the loopback interface, which no kernel filter sees, so that what they meet is accept's doing; both drivers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, local, route_all};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, End, Exchange};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use serde_json::Value;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

on_both_drivers!(
    a_trial_counts_at_accept_until_its_deadline,
    a_trial_ends_at_accept_although_the_gate_is_dead,
    a_trial_ends_at_accept_although_the_control_thread_sleeps,
    a_proxy_that_starts_within_a_trial_knows_what_counts_after_it,
    a_proxy_that_starts_after_a_trial_judges_by_what_was_confirmed,
    a_confirmed_policy_counts_and_ends_the_sessions_of_removed_sources,
    a_policy_that_was_applied_counts_without_a_reload,
    an_apply_opens_and_closes_no_entry_point,
    a_reload_before_the_apply_is_told_as_a_difference,
    a_reload_during_a_trial_does_not_confirm_it,
    a_policy_that_the_files_do_not_hold_is_not_taken,
    a_gate_that_talks_nonsense_changes_nothing,
    a_changed_list_leaves_gate_and_accept_alike,
    a_list_that_changes_during_a_trial_waits_in_both,
    metrics_tell_of_the_gate_and_of_accept,
);

const SOON: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(15);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
/// Before, with the configuration that runs first, and after, with the one that comes later.
const OLD: &str = "127.0.0.5";
const NEW: &str = "127.0.0.6";
const BOTH: &str = "127.0.0.7";
const NOBODY: &str = "127.0.0.8";
/// Where metrics are served.
const METRICS: u16 = 9500;
/// An entry point that only some configurations have.
const SECOND: u16 = 8001;

struct Stage<'c> {
    case: &'c Case,
    setup: Setup,
    _server: RawServer,
}

impl<'c> Stage<'c> {
    fn new(case: &'c Case) -> Result<Stage<'c>> {
        case.ns
            .ip("link add eth0 type veth peer name eth1\nlink set eth0 up\nlink set eth1 up\n")?;
        let stage = Stage {
            case,
            setup: case.setup()?.with_gate(&case.lab.bpffs()?, "enforce"),
            _server: RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?,
        };
        stage.allow(&[OLD, BOTH])?;
        Ok(stage)
    }

    fn body(allowed: &[&str]) -> String {
        let allowed: Vec<String> = allowed.iter().map(|source| format!("\"{source}\"")).collect();
        format!(
            "[entry_points.web]\naddress = \"127.0.0.1:{PORT}\"\nas_default = true\n\
             gate = {{ interfaces = [\"eth0\"], allow = [\"listed\"] }}\n\
             [allowlists.listed]\nsources = [{}]\n{}",
            allowed.join(", "),
            route_all(&backend_url())
        )
    }

    /// Writes the configuration and tells nobody.
    fn allow(&self, allowed: &[&str]) -> Result<()> {
        self.setup.write(&Self::body(allowed))
    }

    fn start(&self) -> Result<(Gate, Gateway)> {
        let gate = Gate::start(&self.setup)?;
        let gateway = self.setup.start(&Self::body(&[OLD, BOTH]))?;
        self.agree(&gateway)?;
        Ok((gate, gateway))
    }

    /// Waits until the proxy says that the gate judges alike.
    fn agree(&self, gateway: &Gateway) -> Result<()> {
        wait_for_policy(gateway, "the same policy", |policy| {
            word(policy, "gate") == "same" && policy.get("trial").is_none()
        })
        .map(drop)
    }

    fn gate(&self, words: &str) -> Result<()> {
        let words: Vec<&str> = words.split_whitespace().collect();
        let output = self.setup.command(&words)?;
        ensure!(
            output.status.success(),
            "{words:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Puts the policy that lets [`NEW`] and [`BOTH`] in on trial.
    fn try_new(&self, gateway: &Gateway, confirm: &str) -> Result<()> {
        self.allow(&[NEW, BOTH])?;
        self.gate(&format!("gate apply --force --confirm {confirm}"))?;
        wait_for_policy(gateway, "a trial", |policy| policy.get("trial").is_some()).map(drop)
    }

    fn ask(&self, from: &str) -> Result<Exchange> {
        let from: IpAddr = from.parse()?;
        raw_client::exchange(&self.case.ns, Some(from), local(PORT), &[REQUEST], SOON)
    }

    fn must_serve(&self, sources: &[&str]) -> Result<()> {
        for from in sources {
            let got = self.ask(from)?;
            ensure!(got.status() == 200, "{from}: {:?} {}", got.end, got.text());
        }
        Ok(())
    }

    fn must_shut_out(&self, sources: &[&str]) -> Result<()> {
        for from in sources {
            let got = self.ask(from)?;
            ensure!(got.is_shut_out(), "{from}: {:?} {}", got.end, got.text());
        }
        Ok(())
    }

    fn wait_shut_out(&self, from: &str) -> Result<()> {
        wait::until(LATER, &format!("{from} to be shut out"), || {
            Ok(self.ask(from)?.is_shut_out().then_some(()))
        })
    }

    /// A connection that has had one answer and stays open.
    fn session(&self, from: &str) -> Result<TcpStream> {
        let mut stream = raw_client::connect(&self.case.ns, Some(from.parse()?), local(PORT))?;
        must_answer(&mut stream)?;
        Ok(stream)
    }
}

fn must_answer(stream: &mut TcpStream) -> Result<()> {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    raw_client::send(stream, &[request])?;
    let head = raw_client::read_head(stream, SOON)?;
    ensure!(head.status() == 200, "{:?} {}", head.end, head.text());
    // The echo ends with the empty line of the request that it echoes.
    if !head.text().contains("\r\n\r\nGET") {
        raw_client::read_head(stream, SOON)?;
    }
    Ok(())
}

fn must_end(stream: &mut TcpStream) -> Result<()> {
    let ended = raw_client::read_to_end(stream, LATER)?;
    ensure!(
        ended.end == End::Closed && ended.bytes.is_empty(),
        "{:?} {}",
        ended.end,
        ended.text()
    );
    Ok(())
}

fn wait_for_policy(gateway: &Gateway, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    let waited = wait::until(LATER, what, || {
        last = gateway.status()?.get("policy").cloned().unwrap_or_default();
        Ok(fits(&last).then(|| last.clone()))
    });
    waited.with_context(|| format!("the last was {last}"))
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn counter(gateway: &Gateway, name: &str) -> Result<u64> {
    let status = gateway.status()?;
    let count = status
        .pointer(&format!("/counters/{name}"))
        .and_then(Value::as_u64);
    count.with_context(|| format!("no counter `{name}`"))
}

fn a_trial_counts_at_accept_until_its_deadline(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (_gate, gateway) = stage.start()?;
    let mut old = stage.session(OLD)?;
    stage.try_new(&gateway, "6s")?;
    stage.must_serve(&[NEW, BOTH])?;
    stage.must_shut_out(&[OLD, NOBODY])?;
    must_answer(&mut old)?;
    let mut new = stage.session(NEW)?;
    stage.wait_shut_out(NEW)?;
    stage.must_serve(&[OLD, BOTH])?;
    stage.must_shut_out(&[NOBODY])?;
    // Who was there before never noticed; who came by the trial goes with it.
    must_answer(&mut old)?;
    must_end(&mut new)?;
    must_answer(&mut old)
}

fn a_trial_ends_at_accept_although_the_gate_is_dead(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (mut gate, gateway) = stage.start()?;
    stage.try_new(&gateway, "6s")?;
    gate.proc.signal(Signal::SIGKILL)?;
    gate.proc.wait(SOON)?;
    wait_for_policy(&gateway, "a gate that is not heard", |policy| {
        word(policy, "gate") == "unheard"
    })?;
    stage.must_serve(&[NEW, BOTH])?;
    stage.must_shut_out(&[OLD])?;
    stage.wait_shut_out(NEW)?;
    stage.must_serve(&[OLD, BOTH])?;
    ensure!(gateway.listens(PORT)?, "a listener was closed");
    // One that is started again remembers what was confirmed, whatever stands in the file.
    let _again = Gate::start(&stage.setup)?;
    stage.agree(&gateway)?;
    stage.must_serve(&[OLD, BOTH])?;
    stage.must_shut_out(&[NEW])
}

/// Kills the proxy and starts it on the files as they are now.
fn start_again(stage: &Stage<'_>, mut gateway: Gateway) -> Result<Gateway> {
    gateway.proc.signal(Signal::SIGKILL)?;
    gateway.proc.wait(SOON)?;
    stage.setup.start(&Stage::body(&[NEW, BOTH]))
}

fn a_proxy_that_starts_within_a_trial_knows_what_counts_after_it(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (_gate, gateway) = stage.start()?;
    stage.try_new(&gateway, "10s")?;
    let gateway = start_again(&stage, gateway)?;
    wait_for_policy(&gateway, "a trial", |policy| policy.get("trial").is_some())?;
    stage.must_serve(&[NEW, BOTH])?;
    stage.must_shut_out(&[OLD, NOBODY])?;
    stage.wait_shut_out(NEW)?;
    stage.must_serve(&[OLD, BOTH])?;
    stage.must_shut_out(&[NEW, NOBODY])
}

fn a_proxy_that_starts_after_a_trial_judges_by_what_was_confirmed(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (_gate, gateway) = stage.start()?;
    stage.try_new(&gateway, "2s")?;
    stage.wait_shut_out(NEW)?;
    let gateway = start_again(&stage, gateway)?;
    stage.agree(&gateway)?;
    stage.must_serve(&[OLD, BOTH])?;
    stage.must_shut_out(&[NEW, NOBODY])?;
    // A reload that is asked for is another matter: the file counts at accept, and status tells of the difference.
    let reloaded = stage.setup.command(&["reload"])?;
    ensure!(reloaded.status.success(), "the reload failed");
    wait_for_policy(&gateway, "a difference", |policy| {
        word(policy, "gate") == "differs"
    })?;
    stage.must_serve(&[NEW, BOTH])?;
    stage.must_shut_out(&[OLD])
}

fn a_trial_ends_at_accept_although_the_control_thread_sleeps(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (_gate, gateway) = stage.start()?;
    stage.try_new(&gateway, "6s")?;
    stage.must_serve(&[NEW])?;
    // A pipe in the place of the configuration holds whoever opens it: the control thread reads it for the reload.
    std::fs::remove_file(stage.setup.file())?;
    nix::unistd::mkfifo(
        &stage.setup.file(),
        nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR,
    )?;
    gateway.proc.signal(Signal::SIGHUP)?;
    stage.wait_shut_out(NEW)?;
    stage.must_serve(&[OLD, BOTH])?;
    // And it wakes up: an empty file is refused, and the old configuration goes on.
    drop(std::fs::OpenOptions::new().write(true).open(stage.setup.file())?);
    std::fs::remove_file(stage.setup.file())?;
    stage.allow(&[OLD, BOTH])?;
    stage.agree(&gateway)
}

fn a_confirmed_policy_counts_and_ends_the_sessions_of_removed_sources(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (_gate, gateway) = stage.start()?;
    let (mut old, mut both) = (stage.session(OLD)?, stage.session(BOTH)?);
    stage.try_new(&gateway, "10m")?;
    must_answer(&mut old)?;
    let mut new = stage.session(NEW)?;
    ensure!(
        counter(&gateway, "source_removed")? == 0,
        "a trial ended a session"
    );
    stage.gate("gate confirm")?;
    must_end(&mut old)?;
    stage.must_shut_out(&[OLD, NOBODY])?;
    stage.must_serve(&[NEW, BOTH])?;
    must_answer(&mut new)?;
    must_answer(&mut both)?;
    ensure!(counter(&gateway, "source_removed")? == 1, "not one session ended");
    stage.agree(&gateway)
}

fn a_policy_that_was_applied_counts_without_a_reload(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (mut gate, gateway) = stage.start()?;
    let mut old = stage.session(OLD)?;
    stage.allow(&[NEW, BOTH])?;
    stage.must_serve(&[OLD])?;
    stage.gate("gate apply --force")?;
    must_end(&mut old)?;
    stage.must_serve(&[NEW, BOTH])?;
    stage.must_shut_out(&[OLD])?;
    let status = gateway.status()?;
    let generation = status.pointer("/configuration/generation");
    ensure!(generation == Some(&Value::from(1)), "{generation:?}");
    // Losing the gate changes nothing, and a reload brings the running configuration to the same policy.
    gate.proc.signal(Signal::SIGKILL)?;
    gate.proc.wait(SOON)?;
    stage.must_serve(&[NEW, BOTH])?;
    stage.gate("reload")?;
    stage.must_serve(&[NEW, BOTH])?;
    stage.must_shut_out(&[OLD])
}

fn an_apply_opens_and_closes_no_entry_point(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (_gate, gateway) = stage.start()?;
    let other = Stage::body(&[NEW, BOTH]).replace(&format!(":{PORT}"), &format!(":{SECOND}"));
    stage.setup.write(&other)?;
    stage.gate("gate apply --force")?;
    stage.agree(&gateway)?;
    // The entry point that the file does not have any more goes on by the policy that it had.
    stage.must_serve(&[OLD, BOTH])?;
    stage.must_shut_out(&[NEW])?;
    ensure!(!gateway.listens(SECOND)?, "an apply opened a listener");
    stage.gate("reload")?;
    ensure!(gateway.listens(SECOND)?, "the reload did not");
    // A worker closes its socket once it has taken what waits in the queue.
    wait::until(SOON, "the reload closes the other", || {
        Ok((!gateway.listens(PORT)?).then_some(()))
    })?;
    let to = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), SECOND);
    let got = raw_client::exchange(&case.ns, Some(NEW.parse()?), to, &[REQUEST], SOON)?;
    ensure!(got.status() == 200, "{}", got.text());
    Ok(())
}

fn a_reload_before_the_apply_is_told_as_a_difference(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (_gate, gateway) = stage.start()?;
    stage.allow(&[NEW, BOTH])?;
    stage.gate("reload")?;
    stage.must_serve(&[NEW, BOTH])?;
    stage.must_shut_out(&[OLD])?;
    let policy = wait_for_policy(&gateway, "a difference", |policy| {
        word(policy, "gate") == "differs"
    })?;
    ensure!(
        word(&policy, "remedy").contains("sallyport gate apply"),
        "{policy}"
    );
    ensure!(
        word(&policy, "digest") != word(&policy, "gate_digest"),
        "{policy}"
    );
    gateway
        .proc
        .wait_for_log("gate and accept judge by different policies", LATER)?;
    stage.gate("gate apply --force")?;
    stage.agree(&gateway)?;
    ensure!(
        gateway
            .proc
            .log()
            .matches("gate and accept judge by different policies")
            .count()
            == 1,
        "it was told more than once"
    );
    stage.must_serve(&[NEW, BOTH])
}

fn a_reload_during_a_trial_does_not_confirm_it(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (_gate, gateway) = stage.start()?;
    let mut old = stage.session(OLD)?;
    stage.try_new(&gateway, "6s")?;
    stage.gate("reload")?;
    stage.must_serve(&[NEW, BOTH])?;
    stage.must_shut_out(&[OLD])?;
    must_answer(&mut old)?;
    stage.wait_shut_out(NEW)?;
    stage.must_serve(&[OLD, BOTH])?;
    must_answer(&mut old)?;
    stage.agree(&gateway)
}

fn a_policy_that_the_files_do_not_hold_is_not_taken(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    stage.allow(&[NOBODY])?;
    let _gate = Gate::start(&stage.setup)?;
    let gateway = stage.setup.start(&Stage::body(&[OLD, BOTH]))?;
    let policy = wait_for_policy(&gateway, "a difference", |policy| {
        word(policy, "gate") == "differs"
    })?;
    ensure!(
        word(&policy, "remedy").contains("sallyport gate apply"),
        "{policy}"
    );
    stage.must_serve(&[OLD, BOTH])?;
    stage.must_shut_out(&[NOBODY])?;
    // Nor while the file is no configuration at all.
    std::fs::write(stage.setup.file(), "no toml")?;
    stage.must_serve(&[OLD, BOTH])?;
    stage.allow(&[OLD, BOTH])?;
    stage.gate("gate apply --force")?;
    stage.agree(&gateway)
}

fn a_gate_that_talks_nonsense_changes_nothing(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let socket = stage.setup.gate_socket();
    std::fs::create_dir_all(socket.parent().context("a directory")?)?;
    let listener = UnixListener::bind(&socket)?;
    let digest = "ab".repeat(32);
    let told: Vec<Vec<u8>> = vec![
        b"\n".to_vec(),
        b"{}\n".to_vec(),
        b"\xff\xfe\n".to_vec(),
        b"{\"policy\":7}\n".to_vec(),
        vec![b'x'; 200_000],
        format!("{{\"policy\":{{\"generation\":1,\"digest\":\"{digest}\",\"mode\":\"off\",\"trial\":null}}}}\n").into_bytes(),
        format!(
            "{{\"policy\":{{\"generation\":1,\"digest\":null,\"mode\":\"off\",\"trial\":{{\"digest\":\"{digest}\",\"mode\":\"off\",\"deadline_ns\":{}}}}}}}\n",
            u64::MAX
        )
        .into_bytes(),
    ];
    let rounds = told.len();
    let gateway = stage.setup.start(&Stage::body(&[OLD, BOTH]))?;
    listener.set_nonblocking(true)?;
    let mut heard = 0;
    let mut open = Vec::new();
    wait::until(Duration::from_secs(60), "a connection for each line", || {
        if let Ok((mut stream, _)) = listener.accept() {
            let line = told.get(heard).context("a line")?;
            // It may close before it has read everything.
            let _ = stream.write_all(line);
            heard += 1;
            // The last two stay open: what they say is well formed.
            if heard >= rounds - 1 {
                open.push(stream);
            }
            if heard == rounds - 1 {
                open.clear();
            }
        }
        stage.must_serve(&[OLD, BOTH])?;
        stage.must_shut_out(&[NEW])?;
        Ok((heard == rounds).then_some(()))
    })?;
    let policy = wait_for_policy(&gateway, "a difference", |policy| {
        word(policy, "gate") == "differs"
    })?;
    ensure!(policy.get("trial").is_none(), "{policy}");
    stage.must_serve(&[OLD, BOTH])?;
    stage.must_shut_out(&[NEW])
}

fn a_changed_list_leaves_gate_and_accept_alike(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let file = stage.setup.file().with_file_name("listed.list");
    let replace = |text: &str| -> Result<()> {
        let beside = file.with_extension("new");
        std::fs::write(&beside, text)?;
        Ok(std::fs::rename(beside, &file)?)
    };
    replace(&format!("{OLD}\n{BOTH}\n"))?;
    let body = Stage::body(&[]).replace("sources = []", "file = \"listed.list\"");
    stage.setup.write(&body)?;
    let _gate = Gate::start(&stage.setup)?;
    let gateway = stage.setup.start(&body)?;
    stage.agree(&gateway)?;
    let status = gateway.status()?;
    let before = word(status.get("policy").unwrap_or(&Value::Null), "digest");
    let mut old = stage.session(OLD)?;
    replace(&format!("{NEW}\n{BOTH}\n"))?;
    must_end(&mut old)?;
    stage.must_serve(&[NEW, BOTH])?;
    wait_for_policy(&gateway, "another policy in both", |policy| {
        word(policy, "gate") == "same"
            && word(policy, "digest") != before
            && word(policy, "digest") == word(policy, "gate_digest")
    })?;
    ensure!(
        !gateway
            .proc
            .log()
            .contains("gate and accept judge by different policies"),
        "a difference was told that passes by itself"
    );
    Ok(())
}

fn a_list_that_changes_during_a_trial_waits_in_both(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let file = stage.setup.file().with_file_name("listed.list");
    std::fs::write(&file, format!("{OLD}\n{BOTH}\n"))?;
    let listed = |sources: &[&str]| {
        let sources = Stage::body(sources);
        sources.replace("sources =", "file = \"listed.list\"\nsources =")
    };
    stage.setup.write(&listed(&[]))?;
    let _gate = Gate::start(&stage.setup)?;
    let gateway = stage.setup.start(&listed(&[]))?;
    stage.agree(&gateway)?;
    stage.setup.write(&listed(&[NOBODY]))?;
    stage.gate("gate apply --force --confirm 5s")?;
    wait_for_policy(&gateway, "a trial", |policy| policy.get("trial").is_some())?;
    std::fs::write(&file, format!("{NEW}\n{BOTH}\n"))?;
    stage.agree(&gateway)?;
    // For longer than a list takes to be taken: with another one at accept than in the kernel nobody would get in.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        stage.must_serve(&[OLD, BOTH])?;
        stage.must_shut_out(&[NEW, NOBODY])?;
    }
    stage.gate("gate apply --force")?;
    wait::until(LATER, "the new list", || {
        Ok((stage.ask(NEW)?.status() == 200).then_some(()))
    })?;
    stage.wait_shut_out(OLD)
}

/// The value of the first sample that begins so.
fn sample(page: &str, start: &str) -> Option<u64> {
    let line = page.lines().find(|line| line.starts_with(start))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

fn scrape(case: &Case, request: &str) -> Result<Exchange> {
    let request = format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n");
    raw_client::exchange(&case.ns, None, local(METRICS), &[request.as_bytes()], SOON)
}

/// Every metric of the page has its row in the documentation, and the other way round.
fn must_be_documented(page: &str) -> Result<()> {
    let documented = include_str!("../../docs/metrics.md").lines().filter_map(|line| {
        // Other tables of the page are of reasons.
        let (name, rest) = line.strip_prefix("| `sallyport_")?.split_once("` | ")?;
        Some(format!("# TYPE sallyport_{name} {}", rest.split_once(" |")?.0))
    });
    let documented: Vec<String> = documented.collect();
    let told: Vec<&str> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
    ensure!(told == documented, "{told:?}");
    Ok(())
}

fn metrics_tell_of_the_gate_and_of_accept(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let body = format!(
        "[metrics]\naddress = \"127.0.0.1:{METRICS}\"\n{}",
        Stage::body(&[OLD, BOTH])
    );
    stage.setup.write(&body)?;
    let mut gate = Gate::start(&stage.setup)?;
    let gateway = stage.setup.start(&body)?;
    stage.agree(&gateway)?;
    let scrape = |request: &str| scrape(case, request);
    stage.must_serve(&[OLD, BOTH])?;
    stage.must_shut_out(&[NEW])?;
    let got = scrape("GET /metrics")?;
    let page = got.text();
    ensure!(
        got.status() == 200 && page.contains("text/plain; version=0.0.4"),
        "{page}"
    );
    must_be_documented(&page)?;
    let accept = "sallyport_accept_connections_total{entry_point=\"web\",verdict=";
    for (start, value) in [
        (format!("{accept}\"admitted\"}}"), 2),
        (format!("{accept}\"refused\"}}"), 1),
        (format!("{accept}\"observed\"}}"), 0),
        ("sallyport_gate_up".to_owned(), 1),
        ("sallyport_gate_policy_differs".to_owned(), 0),
        ("sallyport_gate_confirm_pending".to_owned(), 0),
        ("sallyport_gate_prefixes".to_owned(), 2),
        (
            "sallyport_gate_attach_mode{interface=\"eth0\",mode=\"".to_owned(),
            1,
        ),
    ] {
        ensure!(sample(&page, &start) == Some(value), "{start}: {page}");
    }
    ensure!(
        page.contains("sallyport_gate_packets_total{interface=\"eth0\",policy=\"web\",verdict=\"drop\",reason=\"source\"}"),
        "{page}"
    );
    ensure!(
        page.contains("policy=\"\",verdict=\"pass\",reason=\"not_tcp\""),
        "{page}"
    );
    ensure!(scrape("GET /")?.status() == 404, "another path");
    ensure!(scrape("POST /metrics")?.status() == 405, "another method");
    ensure!(
        !scrape("HEAD /metrics")?.text().contains("sallyport_"),
        "a body for HEAD"
    );
    // Without the gate its numbers are not there, and those of accept go on.
    gate.proc.signal(Signal::SIGKILL)?;
    gate.proc.wait(SOON)?;
    stage.must_shut_out(&[NEW])?;
    let page = wait::until(SOON, "a page without the gate", || {
        let page = scrape("GET /metrics")?.text();
        Ok((sample(&page, "sallyport_gate_up") == Some(0)).then_some(page))
    })?;
    ensure!(!page.contains("sallyport_gate_packets_total{"), "{page}");
    ensure!(
        sample(&page, &format!("{accept}\"refused\"}}")) == Some(2),
        "{page}"
    );
    // A reload closes it.
    stage.setup.write(&Stage::body(&[OLD, BOTH]))?;
    stage.gate("reload")?;
    wait::until(SOON, "the end of the metrics", || {
        Ok((!gateway.listens(METRICS)?).then_some(()))
    })
}
