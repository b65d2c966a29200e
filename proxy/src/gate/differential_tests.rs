//! Configured lists, compiled and put into the kernel's maps as the gate does it, beside a walk through the lists as
//! they were written: programs, `accept` and the walk must let in the same sources.

use super::{
    compile::GatePolicy,
    inputs::Inputs,
    maps::{Maps, Wiring},
    policy::{Allowlists, resolve},
};
use aya::{
    EbpfLoader, TestRun, TestRunOptions,
    programs::{Program, SchedClassifier},
};
use ipnet::IpNet;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof},
    test_runner::{Config as Runs, TestCaseError, TestRunner},
};
use sallyport_config::model::Config;
use sallyport_ebpf::{ConfigWord, Destination, Fragments, Mode};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ebpf/prebuilt/sallyport-gate.o"
));
const ATTACHMENT: u32 = 5;
/// Few, so that entry points share some.
const PORTS: u16 = 90;

/// A prefix as written: bits from the left and how many count.
#[derive(Clone, Copy, Debug)]
struct Written {
    bits: u128,
    width: u32,
    length: u32,
}

impl Written {
    fn mask(self) -> u128 {
        u128::MAX.checked_shl(128 - self.length).unwrap_or(0)
    }

    fn holds(self, address: IpAddr) -> bool {
        let (bits, width) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        width == self.width && (bits ^ self.bits) & self.mask() == 0
    }

    fn address(self, bits: u128) -> IpAddr {
        match self.width {
            32 => Ipv4Addr::from((bits >> 96) as u32).into(),
            _ => Ipv6Addr::from(bits).into(),
        }
    }

    /// Its first and last address and those before and after.
    fn edges(self) -> [IpAddr; 4] {
        let step = 1u128 << (128 - self.width);
        let first = self.bits & self.mask();
        let last = first | !self.mask();
        [first, last, first.wrapping_sub(step), last.wrapping_add(step)].map(|bits| self.address(bits))
    }

    fn text(self) -> String {
        let net =
            IpNet::new(self.address(self.bits & self.mask()), self.length as u8).expect("within the width");
        format!("\"{net}\"")
    }
}

/// Prefixes that lie in, beside and around each other: few beginnings, any end, every length.
fn written() -> impl Strategy<Value = Written> {
    let beginnings: Vec<u128> = vec![0, 10 << 120, 0xc000_0200 << 96, 0x2001_0db8 << 96, u128::MAX];
    let width = prop_oneof![Just(32u32), Just(128)];
    (proptest::sample::select(beginnings), any::<u16>(), width).prop_flat_map(|(start, end, width)| {
        let length = prop_oneof![1 => Just(0), 3 => Just(width), 2 => Just(width - 1), 12 => 0..=width];
        (length, 0..=width).prop_map(move |(length, place)| {
            let end = u128::from(end).checked_shl(128 - place).unwrap_or(0);
            Written {
                bits: start ^ end,
                width,
                length,
            }
        })
    })
}

/// What a whole configuration says: the list of each entry point, and the failsafe sources.
type Lists = (Vec<Vec<Written>>, Vec<Written>);

fn lists() -> impl Strategy<Value = Lists> {
    (vec(vec(written(), 1..5), 1..120), vec(written(), 0..3))
}

fn port(entry: usize) -> u16 {
    1000 + (entry as u16) % PORTS
}

fn config(lists: &Lists) -> Config {
    let quoted = |list: &[Written]| list.iter().map(|net| net.text()).collect::<Vec<_>>().join(", ");
    let mut text = format!("[gate]\nfailsafe = [{}]\n", quoted(&lists.1));
    for (entry, list) in lists.0.iter().enumerate() {
        let (host, port) = (entry + 1, port(entry));
        write!(
            text,
            "[entry_points.e{entry}]\naddress = \"127.0.0.{host}:{port}\"\ngate = {{ interfaces = [\"eth0\"], allow = [{}] }}\n",
            quoted(list)
        )
        .expect("a string takes all");
    }
    let source = sallyport_config::Source {
        name: "t".to_owned(),
        text,
    };
    sallyport_config::parse(&[source]).expect("a valid configuration")
}

/// The gate's maps, and a program that judges by them.
struct Gate {
    maps: Maps,
    program: SchedClassifier,
    slot: u32,
}

impl Gate {
    fn open() -> Self {
        let mut object = EbpfLoader::new()
            .override_global("ATTACHMENT", &ATTACHMENT, true)
            .load(OBJECT)
            .expect("the object loads");
        let program = object.program_mut("gate_tc_l2").expect("the program");
        let Program::SchedClassifier(program) = program else {
            panic!("`gate_tc_l2` is of another type")
        };
        program.load().expect("the program loads");
        // The maps take the object; this is a program of it that they leave to us.
        let info = program.info().expect("its information");
        let program = SchedClassifier::from_program_info(info, "gate_tc_l2".into()).expect("the program");
        Self {
            maps: Maps::open(object, BTreeSet::new()).expect("the maps"),
            program,
            slot: 0,
        }
    }

    /// Puts a configuration into the slot that does not count, and makes it count.
    fn install(&mut self, config: &Config) {
        self.slot = 1 - self.slot;
        let inputs = Inputs::of(config, &Allowlists::default());
        let policy = GatePolicy::of(&inputs).expect("it fits");
        let wiring = Wiring {
            attachments: BTreeMap::from([("eth0".to_owned(), ATTACHMENT)]),
            destinations: BTreeMap::from([("eth0".to_owned(), Destination::Any)]),
            ..Wiring::default()
        };
        self.maps
            .fill(self.slot, &inputs, &policy, &wiring)
            .expect("the maps take it");
        let word = ConfigWord::new(self.slot, Mode::Enforce, Fragments::Pass, 1);
        self.maps.flip(word).expect("the word");
    }

    /// Whether a SYN from a source gets through.
    fn passes(&self, source: IpAddr, port: u16) -> bool {
        let frame = syn(source, port);
        let options = TestRunOptions {
            data_in: Some(&frame),
            ..TestRunOptions::default()
        };
        let result = self.program.test_run(options).expect("a test run");
        match result.return_value as i32 {
            -1 => true,
            2 => false,
            other => panic!("the program returned {other}"),
        }
    }
}

fn syn(source: IpAddr, port: u16) -> Vec<u8> {
    let mut frame = vec![0; 12];
    match source {
        IpAddr::V4(source) => {
            frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
            frame.extend(source.octets());
            frame.extend([192, 0, 2, 1]);
        }
        IpAddr::V6(source) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
            frame.extend(source.octets());
            frame.extend([0x20; 16]);
        }
    }
    frame.extend([0xc0, 0]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    frame
}

/// Holds programs and accept to the lists as they were written, on addresses at and around every prefix.
fn check(
    gate: &Gate,
    config: &Config,
    (lists, failsafe): &Lists,
    more: &[u128],
) -> Result<(), TestCaseError> {
    let failsafe_of = |source| failsafe.iter().any(|net| net.holds(source));
    let holds = |list: &[Written], source| list.iter().any(|net| net.holds(source));
    let random = more.iter().flat_map(|bits| {
        let of = |width| {
            Written {
                bits: *bits,
                width,
                length: width,
            }
            .address(*bits)
        };
        [of(32), of(128)]
    });
    let edges = lists.iter().flatten().chain(failsafe).flat_map(|net| net.edges());
    for (number, source) in edges.chain(random).enumerate() {
        for entry in [number / 4 % lists.len(), number * 31 % lists.len()] {
            let shared = (0..lists.len()).filter(|other| port(*other) == port(entry));
            let expected = failsafe_of(source) || shared.clone().any(|other| holds(&lists[other], source));
            let got = gate.passes(source, port(entry));
            proptest::prop_assert_eq!(got, expected, "the kernel: {} to {}", source, port(entry));
            let own = config.entry_points[&format!("e{entry}")]
                .gate
                .as_ref()
                .expect("a gate");
            let accepted = resolve(&own.allow, &Allowlists::default()).contains(source);
            // An IPv4 peer of a listener of both families is mapped, so accept takes every mapped address for one. The kernel
            // lets no packet in that has one on the wire (`ip6_rcv_core`).
            proptest::prop_assert_eq!(
                accepted,
                holds(&lists[entry], source.to_canonical()),
                "accept: {} to e{}",
                source,
                entry
            );
        }
    }
    Ok(())
}

#[test]
fn maps_and_accept_let_in_whom_the_lists_name() {
    if !nix::unistd::geteuid().is_root() {
        assert!(
            std::env::var_os("CI").is_none(),
            "this test needs root, and CI must run it"
        );
        eprintln!("SKIPPED: root is needed to load BPF programs");
        return;
    }
    let gate = RefCell::new(Gate::open());
    let mut runner = TestRunner::new(Runs {
        cases: 48,
        failure_persistence: None,
        ..Runs::default()
    });
    let outcome = runner.run(&(lists(), vec(any::<u128>(), 20)), |(lists, more)| {
        let config = config(&lists);
        gate.borrow_mut().install(&config);
        check(&gate.borrow(), &config, &lists, &more)
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
