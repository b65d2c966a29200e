//! Where the kernel filter sits and that it is never away: every rung on real devices, replacements under a flood,
//! interfaces that are moved, renamed and made anew. No proxy runs here; a plain listener stands for it.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::{Case, run};
use sallyport_tests::flood::{Flood, segments_in};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::{Driver, Setup};
use sallyport_tests::lab::veth;
use sallyport_tests::lan::{Host, INTERFACE};
use sallyport_tests::stage::{PORT, SOON, Stage, entry, kill, reaches, wait_attached, word};
use sallyport_tests::wait;
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod gate_attach {
            $(#[test]
            fn $case() {
                super::run(stringify!($case), super::Driver::Epoll, super::$case);
            })+
        }
    };
}

cases!(
    every_rung_filters_an_ethernet_device,
    a_macvlan_is_filtered,
    a_layer_three_device_lets_the_friend_in_alone,
    a_clsact_filter_outlives_its_process_and_goes_by_off,
    a_clsact_filter_that_somebody_deletes_comes_back,
    restarts_under_a_flood_let_nothing_in,
    another_layouts_filter_is_replaced_under_a_flood,
    a_change_of_hooks_under_a_flood_lets_nothing_in,
    interfaces_that_exchange_names_stay_filtered_under_a_flood,
    an_interface_that_moves_away_and_back_stays_filtered,
    an_interface_made_anew_is_filtered_soon,
    the_mtu_may_rise_under_native_xdp,
    sixty_four_interfaces_are_filtered,
    an_address_that_comes_is_judged_and_one_that_goes_is_not,
);

fn attach_by(stage: &Stage, word: &str, interface: &str) -> Result<Setup> {
    let keys = format!("[gate]\nattach = \"{word}\"\n");
    let setup = stage.setup.clone().with("[gate]\n", &keys);
    setup.write(&stage.body(&[interface]))?;
    Ok(setup)
}

/// A flood of the stranger's requests to the gated port.
fn flood(stage: &Stage) -> Result<Flood> {
    let (from, to) = (&stage.stranger, &stage.gateway);
    let pairs = [
        (IpAddr::V4(from.v4), IpAddr::V4(to.v4)),
        (IpAddr::V6(from.v6), IpAddr::V6(to.v6)),
    ];
    Flood::start(&from.ns, &pairs, PORT)
}

/// Does `work` under a flood, of which nothing may reach the gateway's stack, nor anything else by TCP.
fn under_flood(stage: &Stage, work: impl FnOnce(&Flood) -> Result<()>) -> Result<()> {
    // Both ends know each other's hardware addresses before, and what they said is over.
    stage.must_filter()?;
    let counted = || segments_in(&stage.gateway.ns);
    wait::until_steady(SOON, Duration::from_millis(300), "the friend's segments", || {
        counted().unwrap_or_default()
    })?;
    let before = counted()?;
    let flood = flood(stage)?;
    work(&flood)?;
    let sent = flood.stop()?;
    let reached = counted()? - before;
    ensure!(
        reached == 0,
        "{reached} of {sent} packets of the stranger came through"
    );
    println!("{sent} packets of the stranger, none came through");
    Ok(())
}

/// Lets some hundred packets pass by.
fn go_on(flood: &Flood) -> Result<()> {
    let from = flood.sent();
    wait::until(SOON, "the flood goes on", || {
        Ok((flood.sent() > from + 500).then_some(()))
    })
}

fn every_rung_filters_an_ethernet_device(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    for (word_of, actual) in [
        ("auto", "xdp"),
        ("xdp", "xdp"),
        ("tc", "tcx"),
        ("clsact", "clsact"),
        ("xdp-generic", "xdp-generic"),
    ] {
        let setup = attach_by(&stage, word_of, INTERFACE)?;
        let mut gate = Gate::start(&setup)?;
        let shown = entry(&gate, INTERFACE)?;
        ensure!(word(&shown, "actual") == actual, "{word_of}: {shown}");
        ensure!(word(&shown, "wanted") == word_of, "{shown}");
        stage.must_filter()?;
        kill(&mut gate)?;
        stage.must_filter()?;
    }
    Ok(())
}

fn a_macvlan_is_filtered(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (v4, v6) = (stage.gateway.v4, stage.gateway.v6);
    stage.gateway.ns.ip(&format!(
        "addr flush dev {INTERFACE}\nlink add mv0 link {INTERFACE} type macvlan mode bridge\nlink set mv0 up\n\
         addr add {v4}/24 dev mv0\naddr add {v6}/64 dev mv0 nodad\n"
    ))?;
    // Else the lower device answers for the address as well, and it is not gated.
    stage
        .gateway
        .ns
        .enter(|| Ok(fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1")?))?;
    for (word_of, actual) in [
        ("auto", "tcx"),
        ("clsact", "clsact"),
        ("xdp-generic", "xdp-generic"),
    ] {
        let setup = attach_by(&stage, word_of, "mv0")?;
        let mut gate = Gate::start(&setup)?;
        let shown = entry(&gate, "mv0")?;
        ensure!(word(&shown, "actual") == actual, "{shown}");
        stage.must_filter()?;
        kill(&mut gate)?;
        stage.must_filter()?;
    }
    Ok(())
}

/// Another network over the hosts' own whose devices have no Ethernet header: VXLAN-GPE, one address a host.
fn layer_three(hosts: [&mut Host; 3]) -> Result<()> {
    let under: Vec<IpAddr> = hosts.iter().map(|host| IpAddr::V4(host.v4)).collect();
    for (at, host) in hosts.into_iter().enumerate() {
        let number = at + 1;
        host.v4 = format!("10.78.0.{number}").parse()?;
        host.v6 = format!("fd78::{number}").parse()?;
        let mut lines = format!(
            "link add l3 type vxlan dstport 4790 external gpe\nlink set l3 up\n\
             addr add {}/32 dev l3\naddr add {}/128 dev l3 nodad\n",
            host.v4, host.v6
        );
        for (other, under) in under.iter().enumerate().filter(|(other, _)| *other != at) {
            let other = other + 1;
            lines += &format!(
                "route add 10.78.0.{other}/32 encap ip id 5 dst {under} dev l3\n\
                 -6 route add fd78::{other}/128 encap ip id 5 dst {under} dev l3\n"
            );
        }
        // `ip -batch` takes no options inside a line.
        for line in lines.lines() {
            let mut command = Command::new("ip");
            let done = host.ns.output(command.args(line.split_whitespace()))?;
            ensure!(
                done.status.success(),
                "{line}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
        }
    }
    Ok(())
}

fn a_layer_three_device_lets_the_friend_in_alone(case: &Case) -> Result<()> {
    let mut stage = Stage::new(case)?;
    layer_three([&mut stage.gateway, &mut stage.friend, &mut stage.stranger])?;
    // Without a filter both come in: the network works.
    stage.must_admit(&stage.friend)?;
    stage.must_admit(&stage.stranger)?;
    for (word_of, actual) in [("auto", "tcx"), ("clsact", "clsact")] {
        let setup = attach_by(&stage, word_of, "l3")?;
        let mut gate = Gate::start(&setup)?;
        let shown = entry(&gate, "l3")?;
        ensure!(word(&shown, "actual") == actual, "{shown}");
        if word_of == "auto" {
            ensure!(word(&shown, "reason").contains("(layer_three)"), "{shown}");
        }
        stage.must_filter()?;
        kill(&mut gate)?;
        stage.must_filter()?;
    }
    Ok(())
}

fn off(setup: &Setup, arguments: &[&str]) -> Result<()> {
    let output = setup.command(&[&["gate", "off"], arguments].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}

fn a_clsact_filter_outlives_its_process_and_goes_by_off(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let setup = attach_by(&stage, "clsact", INTERFACE)?;
    for offline in [&["--offline"][..], &[], &["--interface", INTERFACE]] {
        let mut gate = Gate::start(&setup)?;
        ensure!(gate.attached(INTERFACE)? == "clsact");
        stage.must_filter()?;
        gate.proc.signal(Signal::SIGTERM)?;
        gate.proc.wait(SOON)?;
        stage.must_filter()?;
        let gate = Gate::start(&setup)?;
        let shown = entry(&gate, INTERFACE)?;
        ensure!(word(&shown, "reason").contains("taken over"), "{shown}");
        stage.must_filter()?;
        off(&setup, offline)?;
        stage.must_admit(&stage.stranger)?;
    }
    Ok(())
}

fn a_clsact_filter_that_somebody_deletes_comes_back(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let setup = attach_by(&stage, "clsact", INTERFACE)?;
    let _gate = Gate::start(&setup)?;
    let filters = |verb: &str| {
        let mut tc = Command::new("tc");
        stage
            .gateway
            .ns
            .output(tc.args(["filter", verb, "dev", INTERFACE, "ingress"]))
    };
    let there = || Ok::<_, anyhow::Error>(!filters("show")?.stdout.is_empty());
    ensure!(there()?);
    let output = filters("del")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    wait::until(SOON, "the filter comes back", || Ok(there()?.then_some(())))?;
    stage.must_filter()
}

fn restarts_under_a_flood_let_nothing_in(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    for word_of in ["xdp", "tc", "clsact"] {
        let setup = attach_by(&stage, word_of, INTERFACE)?;
        let mut gate = Gate::start(&setup)?;
        under_flood(&stage, |flood| {
            for _ in 0..5 {
                go_on(flood)?;
                kill(&mut gate)?;
                go_on(flood)?;
                gate = Gate::start(&setup)?;
            }
            go_on(flood)
        })?;
    }
    Ok(())
}

/// The pins of the running version, and where another version would have them.
fn layouts(case: &Case) -> Result<(PathBuf, PathBuf)> {
    let pins = case.lab.bpffs()?.join("gateway");
    let version = fs::read_dir(&pins)?.next().context("no layout is pinned")??;
    let namespace = fs::read_dir(version.path())?
        .next()
        .context("no namespace is pinned")??;
    let other = pins.join("v4242");
    fs::create_dir_all(&other)?;
    Ok((namespace.path(), other.join(namespace.file_name())))
}

fn another_layouts_filter_is_replaced_under_a_flood(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    for word_of in ["xdp", "tc", "clsact"] {
        let setup = attach_by(&stage, word_of, INTERFACE)?;
        let mut gate = Gate::start(&setup)?;
        under_flood(&stage, |flood| {
            for _ in 0..5 {
                kill(&mut gate)?;
                let (ours, other) = layouts(case)?;
                fs::rename(&ours, &other)?;
                go_on(flood)?;
                gate = Gate::start(&setup)?;
                let shown = entry(&gate, INTERFACE)?;
                ensure!(word(&shown, "reason").contains("taken over"), "{shown}");
                ensure!(!other.exists(), "what the other version left stays");
                go_on(flood)?;
            }
            Ok(())
        })?;
        kill(&mut gate)?;
        let (ours, other) = layouts(case)?;
        fs::rename(&ours, &other)?;
        off(&setup, &["--offline"])?;
        stage.must_admit(&stage.stranger)?;
    }
    Ok(())
}

fn a_change_of_hooks_under_a_flood_lets_nothing_in(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let setup = attach_by(&stage, "auto", INTERFACE)?;
    let mut gate = Gate::start(&setup)?;
    under_flood(&stage, |flood| {
        for word_of in [
            "tc",
            "clsact",
            "xdp",
            "xdp-generic",
            "xdp",
            "clsact",
            "xdp-generic",
            "tc",
        ] {
            kill(&mut gate)?;
            let setup = attach_by(&stage, word_of, INTERFACE)?;
            gate = Gate::start(&setup)?;
            let actual = gate.attached(INTERFACE)?;
            ensure!(actual != "none", "{word_of}: {}", entry(&gate, INTERFACE)?);
            go_on(flood)?;
        }
        Ok(())
    })
}

fn interfaces_that_exchange_names_stay_filtered_under_a_flood(case: &Case) -> Result<()> {
    let mut stage = Stage::new(case)?;
    let second = stage.lan.join(&stage.gateway.ns, "eth1")?;
    stage.gate_on(&[INTERFACE, "eth1"])?;
    let gate = Gate::start(&stage.setup)?;
    let programs = [stage.xdp(INTERFACE)?, stage.xdp("eth1")?];
    ensure!(programs.iter().all(Option::is_some));
    drop(second);
    under_flood(&stage, |flood| {
        for _ in 0..5 {
            stage.gateway.ns.ip(&format!(
                "link set {INTERFACE} name x\nlink set eth1 name {INTERFACE}\nlink set x name eth1\n"
            ))?;
            go_on(flood)?;
            for interface in [INTERFACE, "eth1"] {
                wait::until(SOON, "both are taken over", || {
                    let shown = entry(&gate, interface)?;
                    Ok((word(&shown, "actual") == "xdp").then_some(()))
                })?;
            }
        }
        Ok(())
    })?;
    stage.must_filter()
}

fn an_interface_that_moves_away_and_back_stays_filtered(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let gate = Gate::start(&stage.setup)?;
    stage.must_filter()?;
    let program = stage.xdp(INTERFACE)?;
    let away = case.lab.namespace("away")?;
    let (v4, v6) = (stage.gateway.v4, stage.gateway.v6);
    for _ in 0..3 {
        let there = format!("link set {INTERFACE} netns {}\n", away.name());
        stage.gateway.ns.ip(&there)?;
        wait::until(SOON, "status says where it went", || {
            let shown = entry(&gate, INTERFACE)?;
            let told =
                word(&shown, "actual") == "none" && word(&shown, "reason").contains("network namespace");
            Ok(told.then_some(()))
        })?;
        away.ip(&format!(
            "link set {INTERFACE} netns {}\n",
            stage.gateway.ns.name()
        ))?;
        stage.gateway.ns.ip(&format!(
            "link set {INTERFACE} up\naddr add {v4}/24 dev {INTERFACE}\naddr add {v6}/64 dev {INTERFACE} nodad\n"
        ))?;
        wait_attached(&gate, INTERFACE)?;
        let shown = entry(&gate, INTERFACE)?;
        ensure!(word(&shown, "reason").contains("taken over"), "{shown}");
        ensure!(stage.xdp(INTERFACE)?.is_some(), "{program:?} went");
        stage.must_filter()?;
    }
    Ok(())
}

/// Waits until the kernel has a program on the interface, and says how long that took.
fn until_filtered(stage: &Stage, since: Instant) -> Result<Duration> {
    wait::until(SOON, "the new interface is filtered", || {
        Ok(stage.xdp(INTERFACE)?.map(|_| since.elapsed()))
    })
}

fn an_interface_made_anew_is_filtered_soon(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let gate = Gate::start(&stage.setup)?;
    let mut times = Vec::new();
    for _ in 0..20 {
        stage.gateway.ns.ip(&format!("link del {INTERFACE}\n"))?;
        wait::until(SOON, "status says that it is gone", || {
            Ok((gate.attached(INTERFACE)? == "none").then_some(()))
        })?;
        let made = Instant::now();
        veth(&stage.gateway.ns, INTERFACE, &stage.friend.ns, "spare")?;
        let whole = until_filtered(&stage, made)?;
        wait_attached(&gate, INTERFACE)?;
        let told = entry(&gate, INTERFACE)?
            .get("last_gap_ms")
            .and_then(Value::as_u64);
        times.push((whole, told));
    }
    times.sort();
    // What `ip` itself takes is in the first of each, so that is an upper bound.
    println!("filtered after, as seen and as the gate says in ms, of 20 rounds: {times:?}");
    let shown = entry(&gate, INTERFACE)?;
    let counted = |key: &str| shown.get(key).and_then(Value::as_u64);
    ensure!(
        counted("gaps") == Some(20) && counted("last_gap_ms").is_some(),
        "{shown}"
    );
    Ok(())
}

fn the_mtu_may_rise_under_native_xdp(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let mut gate = Gate::start(&stage.setup)?;
    ensure!(gate.attached(INTERFACE)? == "xdp");
    for mtu in [9000, 1500, 9000] {
        stage
            .gateway
            .ns
            .ip(&format!("link set {INTERFACE} mtu {mtu}\n"))?;
        stage.must_filter()?;
        ensure!(gate.attached(INTERFACE)? == "xdp");
    }
    kill(&mut gate)?;
    stage.must_filter()?;
    let gate = Gate::start(&stage.setup)?;
    let shown = entry(&gate, INTERFACE)?;
    ensure!(
        word(&shown, "actual") == "xdp" && word(&shown, "reason").contains("taken over"),
        "{shown}"
    );
    stage.must_filter()
}

fn sixty_four_interfaces_are_filtered(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let mut names = vec![INTERFACE.to_owned()];
    let mut lines = String::new();
    for number in 1..64 {
        names.push(format!("many{number}"));
        lines += &format!("link add many{number} type veth peer name end{number}\n");
    }
    stage.gateway.ns.ip(&lines)?;
    let named: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.gate_on(&named)?;
    for round in ["first", "taken over"] {
        let mut gate = Gate::start(&stage.setup)?;
        let status = gate.status()?;
        let listed = status.get("interfaces").and_then(Value::as_array);
        let attached = listed
            .into_iter()
            .flatten()
            .filter(|entry| word(entry, "actual") == "xdp");
        ensure!(attached.count() == 64, "{round}: {status}");
        stage.must_filter()?;
        kill(&mut gate)?;
    }
    stage.gate_on(&[&named[..], &["one-more"]].concat())?;
    let output = stage.setup.command(&["gate", "run"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("64"), "{said}");
    stage.must_filter()
}

fn an_address_that_comes_is_judged_and_one_that_goes_is_not(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let setup = stage
        .setup
        .clone()
        .with("[gate]\n", "[gate]\ndestinations = \"local\"\n");
    setup.write(&stage.body(&[INTERFACE]))?;
    let gate = Gate::start(&setup)?;
    let more: [IpAddr; 2] = ["10.77.1.200".parse()?, "fd77:1::200".parse()?];
    for _ in 0..2 {
        for (address, length) in more.iter().zip([24, 64]) {
            stage.gateway.ns.ip(&format!(
                "addr add {address}/{length} dev {INTERFACE}{}\n",
                if length == 64 { " nodad" } else { "" }
            ))?;
            wait::until(SOON, "the new address is judged", || {
                let before = gate.dropped()?;
                let reached = reaches(&stage.stranger, *address)?;
                Ok((!reached && gate.dropped()? > before).then_some(()))
            })?;
            ensure!(
                reaches(&stage.friend, *address)?,
                "the friend does not reach {address}"
            );
        }
        for (address, length) in more.iter().zip([24, 64]) {
            stage
                .gateway
                .ns
                .ip(&format!("addr del {address}/{length} dev {INTERFACE}\n"))?;
        }
    }
    stage.must_filter()
}
