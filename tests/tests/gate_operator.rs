//! What the operator asks and tells the gate: explain, apply, confirm and top, on real connections and real floods.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::{Case, run};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::{Driver, Setup, binary};
use sallyport_tests::lan::{Host, INTERFACE, Lan};
use sallyport_tests::process::{Proc, Spawn};
use sallyport_tests::terminal::Terminal;
use sallyport_tests::wait;
use serde_json::Value;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::Duration;

/// The gated port.
const PORT: u16 = 8000;
/// Long for a SYN and its answer between namespaces; a dropped one is never answered.
const SILENCE: Duration = Duration::from_millis(400);
const SOON: Duration = Duration::from_secs(10);
/// A user without any right.
const NOBODY: u32 = 65534;

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod gate_operator {
            $(#[test]
            fn $case() {
                super::run(stringify!($case), super::Driver::Epoll, super::$case);
            })+
        }
    };
}

cases!(
    explain_says_what_each_host_meets_and_it_meets_that,
    a_broken_configuration_keeps_nobody_from_the_gate,
    who_may_not_and_what_is_not_there_have_their_exit_codes,
    apply_refuses_to_cut_a_connection_and_does_it_by_force,
    apply_refuses_a_port_that_outbound_connections_take,
    an_invalid_configuration_is_not_applied,
    a_trial_is_confirmed_by_its_own_verb,
    top_shows_a_flood_live_and_leaves_the_terminal_as_it_was,
    top_in_a_pipe_prints_blocks_and_documents,
    top_waits_for_a_gate_that_went_away,
);

/// A gateway with a listener, a friend on the allowlist and a stranger.
struct Stage {
    setup: Setup,
    gateway: Host,
    friend: Host,
    stranger: Host,
    listener: TcpListener,
    _lan: Lan,
}

impl Stage {
    fn new(case: &Case) -> Result<Stage> {
        let mut lan = Lan::new(&case.lab, 1)?;
        let gateway = lan.host(&case.lab, "gateway")?;
        let friend = lan.host(&case.lab, "friend")?;
        let stranger = lan.host(&case.lab, "stranger")?;
        let setup = Setup::new(&gateway.ns, "gateway", case.driver)?.with_gate(&case.lab.bpffs()?, "enforce");
        let listener = gateway
            .ns
            .enter(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?))?;
        let stage = Stage {
            setup,
            gateway,
            friend,
            stranger,
            listener,
            _lan: lan,
        };
        stage.allow(&[&stage.friend])?;
        Ok(stage)
    }

    /// Writes the configuration: these hosts may reach the port, and nobody else.
    fn allow(&self, hosts: &[&Host]) -> Result<()> {
        self.write(hosts, PORT)
    }

    fn write(&self, hosts: &[&Host], port: u16) -> Result<()> {
        let addresses = hosts.iter().flat_map(|host| host.addresses());
        let allowed: Vec<String> = addresses.map(|address| address.to_string()).collect();
        self.setup.write(&format!(
            "[allowlists.friends]\nfile = \"friends.txt\"\n\
             [entry_points.gated]\naddress = \":{port}\"\n\
             gate = {{ interfaces = [\"{INTERFACE}\"], allow = [\"friends\"] }}\n"
        ))?;
        Ok(std::fs::write(
            self.setup.file().with_file_name("friends.txt"),
            allowed.join("\n"),
        )?)
    }

    /// A connection from a host, and the gateway's end of it.
    fn connect(&self, from: &Host) -> Result<(TcpStream, TcpStream)> {
        let to = SocketAddr::new(IpAddr::V4(self.gateway.v4), PORT);
        let client = from.ns.enter(|| Ok(TcpStream::connect_timeout(&to, SOON)?))?;
        let (server, _) = self.listener.accept()?;
        Ok((client, server))
    }

    /// Runs a verb of the gate.
    fn gate(&self, words: &str) -> Result<Output> {
        let words: Vec<&str> = std::iter::once("gate").chain(words.split_whitespace()).collect();
        self.setup.command(&words)
    }

    /// Runs a verb of the gate and returns its document and exit code.
    fn document(&self, words: &str) -> Result<(Value, Option<i32>)> {
        let output = self.gate(&format!("{words} --format json"))?;
        let document = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{words}: {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok((document, output.status.code()))
    }

    /// Starts a verb of the gate that goes on.
    fn follow(&self, words: &str, terminal: Option<&Terminal>) -> Result<Proc> {
        let spawn = Spawn::new("verb", binary()?).arg("gate");
        let spawn = words.split_whitespace().fold(spawn, Spawn::arg);
        let spawn = spawn.arg("--config").arg(self.setup.file());
        let spawn = match terminal {
            Some(terminal) => spawn.on(terminal.slave()?),
            None => spawn,
        };
        self.gateway.ns.spawn(spawn)
    }

    /// Sends many connection requests that nobody answers.
    fn flood(&self, from: &Host, count: usize) -> Result<()> {
        let to = SocketAddr::new(IpAddr::V4(self.gateway.v4), PORT);
        from.ns.enter(|| {
            for _ in 0..count {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                // In progress, and given up at once.
                let _in_progress = socket.connect(&to.into());
            }
            Ok(())
        })
    }
}

fn reaches(from: &Host, to: IpAddr) -> Result<bool> {
    from.ns
        .enter(|| Ok(TcpStream::connect_timeout(&SocketAddr::new(to, PORT), SILENCE).is_ok()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The output of a command that must have ended with `code`.
fn ended(output: Output, code: i32) -> Result<(String, String)> {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(
        output.status.code() == Some(code),
        "{}\n{out}\n{err}",
        output.status
    );
    Ok((out, err))
}

fn explain_says_what_each_host_meets_and_it_meets_that(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let _gate = Gate::start(&stage.setup)?;
    for (host, verdict, accept) in [
        (&stage.friend, "pass", "admitted"),
        (&stage.stranger, "drop", "refused"),
    ] {
        for (to, from) in stage.gateway.addresses().into_iter().zip(host.addresses()) {
            let (told, code) = stage.document(&format!("explain {from} {PORT} --interface {INTERFACE}"))?;
            ensure!(code == Some(0), "{code:?}: {told}");
            let kernel = told.pointer("/interfaces/0/verdict").and_then(Value::as_str);
            let admitted = told.pointer("/entry_points/0/verdict").and_then(Value::as_str);
            ensure!((kernel, admitted) == (Some(verdict), Some(accept)), "{told}");
            ensure!(
                reaches(host, to)? == (verdict == "pass"),
                "{from} to {to}: {told}"
            );
        }
    }
    let (out, _) = ended(stage.gate(&format!("explain {} {PORT}", stage.friend.v4))?, 0)?;
    let list = format!(
        "admitted by {}/32 of allowlist `friends` (file `",
        stage.friend.v4
    );
    ensure!(out.contains(&list) && out.contains("friends.txt`)"), "{out}");
    ensure!(out.contains("judges by this policy"), "{out}");
    stage.allow(&[&stage.stranger])?;
    let (out, _) = ended(stage.gate(&format!("explain {} {PORT}", stage.stranger.v4))?, 0)?;
    ensure!(out.contains("allowed by `gated`"), "{out}");
    Ok(())
}

fn a_broken_configuration_keeps_nobody_from_the_gate(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let _gate = Gate::start(&stage.setup)?;
    stage
        .setup
        .write("[entry_points.gated]\naddress = 7\nnonsense =\n")?;
    let (_, err) = ended(stage.gate("status")?, 0)?;
    ensure!(err.contains("not valid") && err.contains("gate.sock"), "{err}");
    ended(stage.gate("top --once --interval 100ms")?, 0)?;
    ended(stage.gate(&format!("explain 192.0.2.1 {PORT}"))?, 78)?;
    ensure!(!reaches(&stage.stranger, stage.gateway.v4.into())?);
    ended(stage.gate("off")?, 0)?;
    ensure!(reaches(&stage.stranger, stage.gateway.v4.into())?);
    // A file that is not there names no gate at all.
    std::fs::remove_file(stage.setup.file())?;
    ended(stage.gate("off")?, 78)?;
    Ok(())
}

fn who_may_not_and_what_is_not_there_have_their_exit_codes(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    for verb in ["status", "apply", "confirm", "top --once"] {
        let (_, err) = ended(stage.gate(verb)?, 69)?;
        ensure!(err.contains("does not answer on"), "{verb}: {err}");
    }
    // Where no gate runs, explain still judges.
    let (out, _) = ended(stage.gate(&format!("explain 192.0.2.1 {PORT}"))?, 0)?;
    ensure!(out.contains("no answer"), "{out}");
    let _gate = Gate::start(&stage.setup)?;
    let program = case.dir().join("sallyport");
    std::fs::copy(binary()?, &program)?;
    for verb in ["apply", "confirm", "off", "status"] {
        let mut command = Command::new(&program);
        command.args(["gate", verb, "--config"]).arg(stage.setup.file());
        command.uid(NOBODY).gid(NOBODY);
        let (_, err) = ended(stage.gateway.ns.output(&mut command)?, 77)?;
        ensure!(err.contains("as root"), "{verb}: {err}");
    }
    ensure!(!reaches(&stage.stranger, stage.gateway.v4.into())?);
    Ok(())
}

fn apply_refuses_to_cut_a_connection_and_does_it_by_force(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let _gate = Gate::start(&stage.setup)?;
    let (client, _server) = stage.connect(&stage.friend)?;
    let peer = client.local_addr()?;
    // Keeping whom it has is no reason to refuse.
    stage.allow(&[&stage.friend, &stage.stranger])?;
    let (told, code) = stage.document("apply")?;
    ensure!(
        code == Some(0) && told.pointer("/applied/generation").is_some(),
        "{told}"
    );
    ensure!(reaches(&stage.stranger, stage.gateway.v4.into())?);
    // Cutting it is, and nothing changes.
    stage.allow(&[&stage.stranger])?;
    let (told, code) = stage.document("apply")?;
    let cut = told
        .pointer("/refused/connections/0")
        .context("no connection in the refusal")?;
    ensure!(code == Some(1), "{code:?}: {told}");
    ensure!(
        cut.get("entry_point").and_then(Value::as_str) == Some("gated"),
        "{told}"
    );
    ensure!(
        cut.get("peer").and_then(Value::as_str) == Some(&peer.to_string()),
        "{told}"
    );
    let (_, err) = ended(stage.gate("apply")?, 1)?;
    ensure!(
        err.contains(&peer.to_string()) && err.contains("--force"),
        "{err}"
    );
    ensure!(reaches(&stage.friend, stage.gateway.v4.into())?);
    // By force it is.
    let (out, _) = ended(stage.gate("apply --force")?, 0)?;
    ensure!(out.starts_with("applied: generation"), "{out}");
    ensure!(!reaches(&stage.friend, stage.gateway.v4.into())?);
    ensure!(reaches(&stage.stranger, stage.gateway.v4.into())?);
    Ok(())
}

fn apply_refuses_a_port_that_outbound_connections_take(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let _gate = Gate::start(&stage.setup)?;
    let sysctl = |words: &[&str]| stage.gateway.ns.output(Command::new("sysctl").args(words));
    ended(sysctl(&["-w", "net.ipv4.ip_local_reserved_ports=9000-9010"])?, 0)?;
    stage.write(&[&stage.friend], 40000)?;
    let (told, code) = stage.document("apply")?;
    let reason = told
        .pointer("/refused/reasons/0")
        .and_then(Value::as_str)
        .unwrap_or_default();
    ensure!(
        code == Some(1) && reason.contains("40000 of entry point `gated`"),
        "{told}"
    );
    // The remedy is a command line that helps, and keeps what was reserved.
    let remedy = reason
        .rsplit('`')
        .find(|word| word.starts_with("sysctl"))
        .context("no remedy")?;
    let words: Vec<&str> = remedy.split_whitespace().skip(1).collect();
    ended(sysctl(&words)?, 0)?;
    let (reserved, _) = ended(sysctl(&["-n", "net.ipv4.ip_local_reserved_ports"])?, 0)?;
    ensure!(reserved.trim() == "9000-9010,40000", "{reserved}");
    ended(stage.gate("apply")?, 0)?;
    Ok(())
}

fn an_invalid_configuration_is_not_applied(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let _gate = Gate::start(&stage.setup)?;
    std::fs::write(stage.setup.file().with_file_name("friends.txt"), "nobody\n")?;
    let (_, err) = ended(stage.gate("apply")?, 78)?;
    ensure!(err.contains("friends.txt:1:1"), "{err}");
    let (told, code) = stage.document("apply")?;
    ensure!(code == Some(78) && told.pointer("/invalid/0").is_some(), "{told}");
    ensure!(reaches(&stage.friend, stage.gateway.v4.into())?);
    ensure!(!reaches(&stage.stranger, stage.gateway.v4.into())?);
    Ok(())
}

fn a_trial_is_confirmed_by_its_own_verb(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let _gate = Gate::start(&stage.setup)?;
    let (_, err) = ended(stage.gate("confirm")?, 1)?;
    ensure!(err.contains("refused"), "{err}");
    stage.allow(&[&stage.stranger])?;
    let (out, _) = ended(stage.gate("apply --confirm 600s --force")?, 0)?;
    ensure!(
        out.contains(
            "confirm within 600s with `sallyport gate confirm`, else the last confirmed policy counts again"
        ),
        "{out}"
    );
    let (out, _) = ended(stage.gate(&format!("explain {} {PORT}", stage.stranger.v4))?, 0)?;
    ensure!(out.contains("it tries this policy"), "{out}");
    ended(stage.gate("confirm")?, 0)?;
    let (out, _) = ended(stage.gate(&format!("explain {} {PORT}", stage.stranger.v4))?, 0)?;
    ensure!(out.contains("judges by this policy"), "{out}");
    ensure!(reaches(&stage.stranger, stage.gateway.v4.into())?);
    Ok(())
}

fn top_shows_a_flood_live_and_leaves_the_terminal_as_it_was(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let _gate = Gate::start(&stage.setup)?;
    let mut terminal = Terminal::new(24, 100)?;
    let before = terminal.settings()?;
    for end in ["q", "\x03"] {
        terminal.forget()?;
        let mut top = stage.follow("top --interval 100ms", Some(&terminal))?;
        let source = stage.stranger.v4.to_string();
        terminal.wait_for_screen("a screen", SOON, |screen| screen.contains("reasons:"))?;
        ensure!(terminal.settings()? != before, "keys come by line");
        stage.flood(&stage.stranger, 3000)?;
        let screen = terminal.wait_for_screen("the stranger", SOON, |screen| {
            screen.lines().any(|line| line.starts_with(&source))
        })?;
        ensure!(screen.lines().count() <= 24, "{screen}");
        ensure!(screen.lines().all(|line| line.chars().count() <= 100), "{screen}");
        ensure!(
            screen.contains(INTERFACE) && screen.contains("source "),
            "{screen}"
        );
        // Nine lines have room for less, and it is drawn for them at once.
        terminal.resize(9, 40)?;
        top.signal(Signal::SIGWINCH)?;
        terminal.wait_for_screen("a smaller screen", SOON, |screen| {
            screen.lines().count() <= 9 && screen.lines().any(|line| line.chars().count() == 40)
        })?;
        terminal.resize(24, 100)?;
        terminal.press(end)?;
        let status = top.wait(SOON)?;
        ensure!(status.code() == Some(0), "{end:?}: {status}: {}", top.log());
        ensure!(
            terminal.settings()? == before,
            "{end:?}: its settings are not put back"
        );
        let seen = terminal.seen()?;
        ensure!(seen.ends_with("\x1b[?25h\x1b[?1049l"), "{end:?}: {seen:?}");
    }
    // A signal from elsewhere is no reason to leave it as it is either.
    let mut top = stage.follow("top", Some(&terminal))?;
    wait::until(SOON, "the terminal is taken", || {
        Ok((terminal.settings()? != before).then_some(()))
    })?;
    top.signal(Signal::SIGTERM)?;
    ensure!(top.wait(SOON)?.code() == Some(0), "{}", top.log());
    ensure!(terminal.settings()? == before, "its settings are not put back");
    Ok(())
}

fn top_in_a_pipe_prints_blocks_and_documents(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let _gate = Gate::start(&stage.setup)?;
    stage.flood(&stage.stranger, 3000)?;
    let (out, _) = ended(stage.gate("top --once --interval 100ms")?, 0)?;
    ensure!(!out.contains('\x1b'), "{out:?}");
    ensure!(out.matches("events lost:").count() == 1, "{out}");
    ensure!(out.contains(&stage.stranger.v4.to_string()), "{out}");
    let (told, code) = stage.document("top --once")?;
    ensure!(code == Some(0), "{code:?}");
    let number = |path: &str| told.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    ensure!(number("/version") == 1, "{told}");
    ensure!(number("/interfaces/0/dropped") >= 3000, "{told}");
    ensure!(number("/reasons/source") >= 3000, "{told}");
    ensure!(number("/policies/0/dropped") >= 3000, "{told}");
    let first = told.pointer("/sources/0/source").and_then(Value::as_str);
    ensure!(first == Some(&stage.stranger.v4.to_string()), "{told}");
    let blocks = stage.follow("top --interval 100ms", None)?;
    let lines = stage.follow("top --interval 100ms --format json", None)?;
    wait::until(SOON, "three blocks", || {
        Ok((blocks.log().matches("events lost:").count() >= 3).then_some(()))
    })?;
    wait::until(SOON, "three documents", || {
        Ok((lines.log().lines().count() >= 3).then_some(()))
    })?;
    for line in lines.log().lines().take(3) {
        let document: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(document.get("version") == Some(&Value::from(1)), "{document}");
    }
    Ok(())
}

fn top_waits_for_a_gate_that_went_away(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let mut gate = Gate::start(&stage.setup)?;
    let mut terminal = Terminal::new(24, 100)?;
    let mut top = stage.follow("top --interval 100ms", Some(&terminal))?;
    terminal.wait_for_screen("a screen", SOON, |screen| screen.contains("reasons:"))?;
    gate.proc.signal(Signal::SIGKILL)?;
    gate.proc.wait(SOON)?;
    terminal.wait_for_screen("that nobody answers", SOON, |screen| {
        screen.contains("does not answer")
    })?;
    let _again = Gate::start(&stage.setup)?;
    terminal.wait_for_screen("that somebody answers", SOON, |screen| {
        screen.contains("reasons:") && !screen.contains("does not answer")
    })?;
    top.must_run()?;
    terminal.press("q")?;
    ensure!(top.wait(SOON)?.code() == Some(0), "{}", top.log());
    Ok(())
}
