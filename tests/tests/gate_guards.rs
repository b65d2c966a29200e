//! What must not shake a running gate: a second one, two names of one interface, a filter that goes during a trial,
//! prefixes that are wider than the programs sift by. No proxy runs here; a plain listener stands for it.

use anyhow::{Result, ensure};
use sallyport_tests::case::{Case, run};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::Driver;
use sallyport_tests::lan::INTERFACE;
use sallyport_tests::stage::{SOON, Stage, entry, reaches, word};
use sallyport_tests::wait;
use serde_json::Value;

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod gate_guards {
            $(#[test]
            fn $case() {
                super::run(stringify!($case), super::Driver::Epoll, super::$case);
            })+
        }
    };
}

cases!(
    a_second_gate_touches_nothing,
    a_second_name_of_an_interface_takes_no_filter_away,
    a_trial_ends_although_the_pins_are_gone,
    wide_prefixes_hide_no_narrow_one,
);

/// The configuration lets the stranger in, and nobody else.
fn allow_the_stranger(stage: &Stage) -> Result<()> {
    let body = stage.body(&[INTERFACE]);
    let body = body.replace(
        &format!("{}/32", stage.friend.v4),
        &format!("{}/32", stage.stranger.v4),
    );
    stage.setup.write(&body.replace(
        &format!("{}/128", stage.friend.v6),
        &format!("{}/128", stage.stranger.v6),
    ))
}

fn a_second_gate_touches_nothing(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let gate = Gate::start(&stage.setup)?;
    stage.must_filter()?;
    allow_the_stranger(&stage)?;
    let by_socket = stage.setup.command(&["gate", "run"])?;
    // Nobody answers on the second one's own socket, so the pins must tell.
    let text = std::fs::read_to_string(stage.setup.file())?;
    std::fs::write(stage.setup.file(), text.replace("gate.sock", "other.sock"))?;
    let by_pins = stage.setup.command(&["gate", "run"])?;
    std::fs::write(stage.setup.file(), text)?;
    for output in [by_socket, by_pins] {
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(1) && said.contains("another gate runs on"),
            "{}: {said}",
            output.status
        );
    }
    stage.must_filter()?;
    let status = gate.status()?;
    ensure!(
        status.get("generation").and_then(Value::as_u64) == Some(1),
        "{status}"
    );
    Ok(())
}

fn a_second_name_of_an_interface_takes_no_filter_away(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    stage
        .gateway
        .ns
        .ip(&format!("link property add dev {INTERFACE} altname other0\n"))?;
    let second = format!(
        "[entry_points.second]\naddress = \":8001\"\ngate = {{ interfaces = [\"other0\"], allow = [\"{}/32\"] }}\n",
        stage.friend.v4
    );
    stage.setup.write(&(stage.body(&[INTERFACE]) + &second))?;
    let gate = Gate::start(&stage.setup)?;
    stage.must_filter()?;
    let other = entry(&gate, "other0")?;
    ensure!(
        word(&other, "actual") == "none" && word(&other, "reason").contains(INTERFACE),
        "{other}"
    );
    let own = entry(&gate, INTERFACE)?;
    ensure!(word(&own, "actual") == "xdp", "{own}");
    Ok(())
}

fn a_trial_ends_although_the_pins_are_gone(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let gate = Gate::start(&stage.setup)?;
    allow_the_stranger(&stage)?;
    let applied = gate.ask(r#"apply {"confirm":1,"force":true}"#)?;
    ensure!(applied.get("applied").is_some(), "{applied}");
    let off = stage.setup.command(&["gate", "off"])?;
    ensure!(off.status.success(), "{off:?}");
    wait::until(SOON, "the trial ends", || {
        let status = gate.status()?;
        Ok(status.get("trial").is_some_and(Value::is_null).then_some(()))
    })?;
    let applied = gate.ask(r#"apply {"confirm":null,"force":true}"#)?;
    let warned = applied.pointer("/applied/warnings").map(Value::to_string);
    ensure!(
        warned
            .as_deref()
            .is_some_and(|said| said.contains("start the gate again")),
        "{applied}"
    );
    Ok(())
}

fn wide_prefixes_hide_no_narrow_one(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let friend = format!("{}/128", stage.friend.v6);
    let wide = format!("2a00::/12\", \"2c00::/29\", \"{friend}");
    stage
        .setup
        .write(&stage.body(&[INTERFACE]).replace(&friend, &wide))?;
    let _gate = Gate::start(&stage.setup)?;
    stage.must_filter()?;
    // The second wide one counts as well.
    let inside = "2c00::77";
    stage
        .stranger
        .ns
        .ip(&format!("addr add {inside}/128 dev {INTERFACE} nodad\n"))?;
    stage.stranger.ns.ip(&format!(
        "route add {}/128 dev {INTERFACE} src {inside}\n",
        stage.gateway.v6
    ))?;
    stage
        .gateway
        .ns
        .ip(&format!("route add {inside}/128 dev {INTERFACE}\n"))?;
    wait::until(SOON, "a source of the second wide prefix gets in", || {
        Ok(reaches(&stage.stranger, stage.gateway.v6.into())?.then_some(()))
    })
}
