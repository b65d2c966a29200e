//! The whole gate in storms: policies that change under load. What is judged is counted, packet by packet, and held
//! against what was sent.

use anyhow::{Result, ensure};
use sallyport_tests::case::{Case, run};
use sallyport_tests::flips::{Class, Counts, SIDES, Side, classes, judge, write};
use sallyport_tests::frames::{Stream, Wire, request};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::{Driver, Setup};
use sallyport_tests::lab::{Ns, veth};
use sallyport_tests::lan::INTERFACE;
use sallyport_tests::stage::{SOON, entry};
use sallyport_tests::wait;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod gate_storm {
            $(#[test]
            fn $case() {
                super::run(stringify!($case), super::Driver::Epoll, super::$case);
            })+
        }
    };
}

cases!(no_packet_is_judged_by_two_policies_while_they_change,);

/// Changes of the policy in one run.
const FLIPS: u32 = 20;
/// The other end of the gateway's interface.
const OUTSIDE: &str = "out0";
/// Nobody's: the gate looks at the frames, and the stack behind it does not.
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
/// The gateway's addresses.
const GATEWAY: [&str; 2] = ["10.77.9.1", "fd77:9::1"];

/// A gateway with one interface, at whose other end there are frames alone: no host that would say something.
struct Wired {
    setup: Setup,
    outside: Ns,
    classes: Vec<Class>,
}

impl Wired {
    fn new(case: &Case) -> Result<Wired> {
        let gateway = case.lab.namespace("gateway")?;
        let outside = case.lab.namespace("outside")?;
        outside.enter(|| {
            Ok(std::fs::write(
                "/proc/sys/net/ipv6/conf/default/disable_ipv6",
                "1",
            )?)
        })?;
        veth(&gateway, INTERFACE, &outside, OUTSIDE)?;
        let [v4, v6] = GATEWAY;
        gateway.ip(&format!(
            "addr add {v4}/24 dev {INTERFACE}\naddr add {v6}/64 dev {INTERFACE} nodad\n"
        ))?;
        Ok(Wired {
            setup: Setup::new(&gateway, "gateway", case.driver)?.with_gate(&case.lab.bpffs()?, "enforce"),
            outside,
            classes: classes()?,
        })
    }

    /// A frame of each class.
    fn frames(&self) -> Result<Vec<Vec<u8>>> {
        let [v4, v6] = GATEWAY;
        let (v4, v6): (IpAddr, IpAddr) = (v4.parse()?, v6.parse()?);
        let frame = |class: &Class| {
            let to = if class.source.is_ipv4() { v4 } else { v6 };
            let to = SocketAddr::new(to, class.port);
            request(NOBODY, SocketAddr::new(class.source, 40_000), to)
        };
        Ok(self.classes.iter().map(frame).collect())
    }

    /// What was counted once all that was sent is.
    fn counted(&self, gate: &Gate, sent: u64, before: &Counts) -> Result<Counts> {
        let mut last = 0;
        let counted = wait::until(SOON, "every frame is counted", || {
            let counts = Counts::of(&entry(gate, INTERFACE)?)?.since(before)?;
            last = counts.sum();
            Ok((last >= sent).then_some(counts))
        })?;
        ensure!(
            counted.sum() == sent,
            "{sent} frames sent, {} counted",
            counted.sum()
        );
        Ok(counted)
    }
}

/// Makes the other policy count.
fn apply(gate: &Gate) -> Result<()> {
    let answer = gate.ask(r#"apply {"confirm":null,"force":true}"#)?;
    ensure!(answer.get("applied").is_some(), "{answer}");
    Ok(())
}

fn no_packet_is_judged_by_two_policies_while_they_change(case: &Case) -> Result<()> {
    let wired = Wired::new(case)?;
    write(&wired.setup, &wired.classes, Side::A)?;
    let gate = Gate::start(&wired.setup)?;
    let before = Counts::of(&entry(&gate, INTERFACE)?)?;
    let stream = Stream::start(Wire::open(&wired.outside, OUTSIDE)?, wired.frames()?);
    let began = Instant::now();
    for flip in 0..FLIPS {
        let side = if flip % 2 == 0 { Side::B } else { Side::A };
        write(&wired.setup, &wired.classes, side)?;
        apply(&gate)?;
    }
    let took = began.elapsed();
    let sent = stream.stop()?;
    let all = sent.iter().sum();
    let counted = wired.counted(&gate, all, &before)?;
    let (wrong, seen) = judge(&wired.classes, &sent, &counted);
    println!("{FLIPS} flips in {took:?}, {all} packets, {seen:?}");
    ensure!(wrong.is_empty(), "judged by a mixture:\n{}", wrong.join("\n"));
    ensure!(seen.a > 0 && seen.b > 0, "not both judged: {seen:?}");
    let _ = SIDES;
    Ok(())
}
