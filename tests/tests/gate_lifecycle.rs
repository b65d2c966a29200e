//! The kernel filter through kills, restarts, vanishing interfaces and other people's programs: from another
//! host, and by what the gate says of itself. No proxy runs here; a plain listener stands for it.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::{Case, run, skip};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::{Driver, Setup, binary};
use sallyport_tests::lan::{INTERFACE, Lan};
use sallyport_tests::stage::{SOON, Stage, entry, kill, reaches, wait_attached, word};
use sallyport_tests::wait;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod gate_alone {
            $(#[test]
            fn $case() {
                super::run(stringify!($case), super::Driver::Epoll, super::$case);
            })+
        }
    };
}

cases!(
    a_restart_takes_the_filter_over_and_goes_on_counting,
    an_interface_that_comes_back_is_filtered,
    a_renamed_interface_does_not_stand_for_a_new_one,
    native_refused_goes_to_tcx_and_says_why,
    another_owners_program_stays_and_tcx_stands_beside_it,
    another_hook_comes_before_the_old_one_goes,
    off_offline_works_under_a_running_gate,
    off_of_one_interface_leaves_the_others_to_come,
    a_layer_three_device_is_filtered_by_tcx,
    observe_counts_and_lets_in,
    what_is_missing_is_named_with_its_exit_code,
    a_dribbling_peer_holds_nobody_up,
    a_debug_object_says_what_it_lets_in,
);

fn a_restart_takes_the_filter_over_and_goes_on_counting(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let mut gate = Gate::start(&stage.setup)?;
    stage.must_filter()?;
    let dropped = gate.dropped()?;
    ensure!(dropped >= 2, "{dropped} packets dropped");
    for round in 1..=3 {
        kill(&mut gate)?;
        stage.must_filter()?;
        gate = Gate::start(&stage.setup)?;
        stage.must_filter()?;
        let shown = entry(&gate, INTERFACE)?;
        ensure!(word(&shown, "actual") == "xdp", "round {round}: {shown}");
        ensure!(
            word(&shown, "reason").contains("taken over"),
            "round {round}: {shown}"
        );
        ensure!(
            gate.dropped()? > dropped,
            "round {round}: the counters began anew"
        );
    }
    gate.proc.signal(Signal::SIGTERM)?;
    let status = gate.proc.wait(SOON)?;
    ensure!(status.code() == Some(0), "ended with {status}");
    stage.must_filter()
}

fn an_interface_that_comes_back_is_filtered(case: &Case) -> Result<()> {
    let mut stage = Stage::new(case)?;
    let gate = Gate::start(&stage.setup)?;
    stage.must_filter()?;
    for _ in 0..3 {
        stage.gateway.ns.ip(&format!("link del {INTERFACE}\n"))?;
        wait::until(SOON, "status says that it is gone", || {
            Ok((gate.attached(INTERFACE)? == "none").then_some(()))
        })?;
        stage.gateway = stage.lan.join(&stage.gateway.ns, INTERFACE)?;
        wait_attached(&gate, INTERFACE)?;
        stage.must_filter()?;
    }
    Ok(())
}

fn a_renamed_interface_does_not_stand_for_a_new_one(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let gate = Gate::start(&stage.setup)?;
    stage.must_filter()?;
    stage.gateway.ns.ip(&format!(
        "link set {INTERFACE} down\nlink set {INTERFACE} name old0\nlink set old0 up\n"
    ))?;
    // What was renamed stays filtered while nothing else has its name.
    ensure!(
        stage.xdp("old0")?.is_some(),
        "the renamed interface lost its filter"
    );
    let mut other = Lan::new(&case.lab, 2)?;
    let gateway = other.join(&stage.gateway.ns, INTERFACE)?;
    let stranger = other.host(&case.lab, "stranger2")?;
    wait_attached(&gate, INTERFACE)?;
    ensure!(
        stage.xdp(INTERFACE)?.is_some(),
        "status says filtered, the kernel not"
    );
    for to in gateway.addresses() {
        ensure!(!reaches(&stranger, to)?, "the stranger reached {to}");
    }
    Ok(())
}

fn native_refused_goes_to_tcx_and_says_why(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (v4, v6) = (stage.gateway.v4, stage.gateway.v6);
    stage.gateway.ns.ip(&format!(
        "link add br0 type bridge stp_state 0 forward_delay 0\naddr flush dev {INTERFACE}\n\
         link set {INTERFACE} master br0\nlink set br0 up\n\
         addr add {v4}/24 dev br0\naddr add {v6}/64 dev br0 nodad\n"
    ))?;
    stage.gate_on(&["br0"])?;
    let gate = Gate::start(&stage.setup)?;
    let shown = entry(&gate, "br0")?;
    ensure!(word(&shown, "actual") == "tcx", "{shown}");
    ensure!(word(&shown, "reason").contains("native XDP"), "{shown}");
    stage.must_filter()?;
    let mut gate = gate;
    kill(&mut gate)?;
    stage.must_filter()?;
    let gate = Gate::start(&stage.setup)?;
    let shown = entry(&gate, "br0")?;
    ensure!(
        word(&shown, "actual") == "tcx" && word(&shown, "reason").contains("native XDP"),
        "{shown}"
    );
    stage.must_filter()
}

fn another_owners_program_stays_and_tcx_stands_beside_it(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    // A gate with pins of its own is as foreign as any other owner of an XDP program.
    let foreign =
        Setup::new(&stage.gateway.ns, "foreign", case.driver)?.with_gate(&case.lab.bpffs()?, "observe");
    foreign.write(&stage.body(&[INTERFACE]))?;
    let foreign = Gate::start(&foreign)?;
    let theirs = stage.xdp(INTERFACE)?;
    ensure!(theirs.is_some() && foreign.attached(INTERFACE)? == "xdp");
    let gate = Gate::start(&stage.setup)?;
    let shown = entry(&gate, INTERFACE)?;
    ensure!(word(&shown, "actual") == "tcx", "{shown}");
    ensure!(word(&shown, "reason").contains("another XDP program"), "{shown}");
    ensure!(stage.xdp(INTERFACE)? == theirs, "the other program was replaced");
    stage.must_filter()
}

fn another_hook_comes_before_the_old_one_goes(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    for (attach, actual) in [
        ("auto", "xdp"),
        ("tc", "tcx"),
        ("xdp", "xdp"),
        ("xdp-generic", "xdp-generic"),
        ("auto", "xdp"),
    ] {
        let setup = stage
            .setup
            .clone()
            .with("[gate]\n", &format!("[gate]\nattach = \"{attach}\"\n"));
        setup.write(&stage.body(&[INTERFACE]))?;
        let mut gate = Gate::start(&setup)?;
        ensure!(
            gate.attached(INTERFACE)? == actual,
            "{attach}: {}",
            entry(&gate, INTERFACE)?
        );
        ensure!(
            stage.xdp(INTERFACE)?.is_some() == (actual != "tcx"),
            "{attach}: the old hook is still there"
        );
        stage.must_filter()?;
        kill(&mut gate)?;
        stage.must_filter()?;
    }
    Ok(())
}

fn off_offline_works_under_a_running_gate(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let gate = Gate::start(&stage.setup)?;
    stage.must_filter()?;
    let output = stage.setup.command(&["gate", "off", "--offline"])?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stage.must_admit(&stage.stranger)?;
    // An event makes the gate look again: it must neither attach again nor claim what is not so.
    stage
        .gateway
        .ns
        .ip("link add noise0 type veth peer name noise1\n")?;
    wait::until(Duration::from_secs(10), "status says that it is off", || {
        Ok((gate.attached(INTERFACE)? == "none").then_some(()))
    })?;
    stage.must_admit(&stage.stranger)?;
    drop(gate);
    let _gate = Gate::start(&stage.setup)?;
    stage.must_filter()
}

fn off_of_one_interface_leaves_the_others_to_come(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    stage.gate_on(&[INTERFACE, "eth1"])?;
    let gate = Gate::start(&stage.setup)?;
    ensure!(gate.attached("eth1")? == "none");
    let output = stage.setup.command(&["gate", "off", "--interface", INTERFACE])?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stage.must_admit(&stage.stranger)?;
    let mut other = Lan::new(&case.lab, 2)?;
    let gateway = other.join(&stage.gateway.ns, "eth1")?;
    let stranger = other.host(&case.lab, "stranger2")?;
    wait_attached(&gate, "eth1")?;
    for to in gateway.addresses() {
        ensure!(!reaches(&stranger, to)?, "the stranger reached {to}");
    }
    stage.must_admit(&stage.stranger)
}

fn a_layer_three_device_is_filtered_by_tcx(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    stage
        .gateway
        .ns
        .ip("tuntap add dev tun0 mode tun\nlink set tun0 up\n")?;
    stage.gate_on(&["tun0"])?;
    let gate = Gate::start(&stage.setup)?;
    let shown = entry(&gate, "tun0")?;
    ensure!(word(&shown, "actual") == "tcx", "{shown}");
    ensure!(word(&shown, "reason").contains("no Ethernet header"), "{shown}");
    Ok(())
}

fn observe_counts_and_lets_in(case: &Case) -> Result<()> {
    let stage = Stage::with_mode(case, "observe")?;
    let gate = Gate::start(&stage.setup)?;
    stage.must_admit(&stage.friend)?;
    stage.must_admit(&stage.stranger)?;
    let shown = entry(&gate, INTERFACE)?;
    let observed = shown
        .pointer("/observed/source")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    ensure!(observed >= 2 && gate.dropped()? == 0, "{shown}");
    Ok(())
}

fn what_is_missing_is_named_with_its_exit_code(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let nowhere = Setup::new(&stage.gateway.ns, "nowhere", case.driver)?.with_gate(case.lab.dir(), "enforce");
    nowhere.write(&stage.body(&[INTERFACE]))?;
    let output = nowhere.command(&["gate", "run"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(69) && said.contains("mount -t bpf"),
        "{said}"
    );
    // No object, and one whose programs say nothing.
    let silent = concat!(env!("CARGO_MANIFEST_DIR"), "/../ebpf/prebuilt/sallyport-gate.o");
    for object in ["/nowhere.o", silent] {
        let output = stage.setup.command(&["gate", "run", "--debug-object", object])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(1) && said.contains("cargo xtask ebpf --debug"),
            "{said}"
        );
    }
    let output = stage.setup.command(&["gate", "status"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(69) && said.contains("sallyport gate run"),
        "{said}"
    );
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-cap_39"]).arg(binary()?);
    command.args(["gate", "run", "--config"]).arg(stage.setup.file());
    let output = stage.gateway.ns.output(&mut command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(77) && said.contains("CAP_BPF"),
        "{said}"
    );
    Ok(())
}

fn a_dribbling_peer_holds_nobody_up(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let gate = Gate::start(&stage.setup)?;
    let mut peer = UnixStream::connect(stage.setup.gate_socket())?;
    let began = Instant::now();
    // A byte now and then, never the end of the line: the gate hangs up.
    let cut = wait::until(SOON, "the gate hangs up", || {
        Ok(peer.write_all(b"s").is_err().then_some(()))
    });
    cut?;
    ensure!(began.elapsed() < SOON);
    gate.status().map(drop)
}

fn a_debug_object_says_what_it_lets_in(case: &Case) -> Result<()> {
    let Some(object) = std::env::var_os("SALLYPORT_DEBUG_OBJECT") else {
        skip(
            "a_debug_object_says_what_it_lets_in",
            "needs SALLYPORT_DEBUG_OBJECT; `cargo xtask test` sets it where a BPF toolchain is",
        );
        return Ok(());
    };
    let stage = Stage::new(case)?;
    let mut gate = Gate::start_with(&stage.setup, &[OsStr::new("--debug-object"), &object])?;
    let shown = entry(&gate, INTERFACE)?;
    ensure!(word(&shown, "actual") == "xdp", "{shown}");
    ensure!(gate.proc.log().contains("a debug object is loaded"), "no warning");
    let said = |gate: &Gate| gate.proc.log().matches("passes reason 4").count();
    ensure!(said(&gate) == 0, "said before a packet came");
    stage.must_filter()?;
    wait::until(SOON, "a line for each allowed packet", || {
        let shown = entry(&gate, INTERFACE)?;
        let counted = shown.pointer("/passed/allowed").and_then(Value::as_u64);
        Ok((counted > Some(0) && counted == u64::try_from(said(&gate)).ok()).then_some(()))
    })?;
    ensure!(gate.dropped()? >= 2, "the stranger's packets are not counted");
    let log = gate.proc.log();
    ensure!(
        !log.contains("reason 16") && !log.contains("observes"),
        "a dropped packet was said"
    );
    // The next start without it puts the silent programs into the same link.
    kill(&mut gate)?;
    let debug = stage.xdp(INTERFACE)?;
    let gate = Gate::start(&stage.setup)?;
    let shown = entry(&gate, INTERFACE)?;
    ensure!(word(&shown, "reason").contains("taken over"), "{shown}");
    ensure!(stage.xdp(INTERFACE)? != debug, "the debug program still runs");
    stage.must_filter()?;
    ensure!(!gate.proc.log().contains("passes reason"));
    Ok(())
}
