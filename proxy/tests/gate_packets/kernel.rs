//! The programs in the kernel, with maps of their own that nothing pins, run on packets by
//! `BPF_PROG_TEST_RUN`.

mod fill;

use crate::{
    generate::Case,
    oracle::{Link, Segments},
};
use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    maps::{
        Array, ArrayOfMaps, HashMap, MapData, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{Program, ProgramError},
};
use sallyport_ebpf::{
    ALLOWED_WORDS, Allowed, CFG_DEADLINE, CFG_WORD, COUNTER_ENTRIES, ConfigWord, Destination, Fragments,
    Mode, Outcome, PolicyEntry, Reason, SOURCE_FAILSAFE, SourceValue, allowed_entry, counter_entry,
    policy_entry, with_port_index,
};
use std::net::IpAddr;

/// Not 0, so that a program that ignores its number shows.
pub(crate) const ATTACHMENT: u32 = 3;
/// The policy of the gated port in slot 0 and slot 1.
const POLICIES: [u32; 2] = [1, 7];

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/prebuilt/sallyport-gate.o");

/// The four programs.
pub(crate) const PROGRAMS: [&str; 4] = ["gate_xdp", "gate_xdp_nofrags", "gate_tc_l2", "gate_tc_l3"];

/// What the programs' runs start with: the device, and how the kernel gives it the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View<'a> {
    pub(crate) packet: &'a [u8],
    pub(crate) link: Link,
    pub(crate) segments: Segments,
    first_buffer: Option<u32>,
}

impl<'a> View<'a> {
    /// What a program sees of a case; `None` where it would see nothing.
    pub(crate) fn of(program: &str, case: &'a Case) -> Option<Self> {
        let (frame, at_xdp) = (&case.frame[..], program.starts_with("gate_xdp"));
        let packet = match program {
            "gate_tc_l3" => frame.get(case.network..)?,
            _ => frame,
        };
        Some(Self {
            packet,
            link: match program {
                "gate_tc_l3" => Link::Bare {
                    protocol: test_run_protocol(packet)?,
                },
                _ => Link::Ethernet,
            },
            segments: if at_xdp { Segments::One } else { case.segments },
            first_buffer: case.first_buffer.filter(|_| program == "gate_xdp"),
        })
    }

    /// The kernel's structure for a test run, where the defaults are not meant.
    fn context(&self) -> Option<Vec<u8>> {
        if let Some(bytes) = self.first_buffer {
            // `struct xdp_md`: data, data_end and four more.
            let mut context = vec![0; 24];
            context[4..8].copy_from_slice(&bytes.to_ne_bytes());
            return Some(context);
        }
        (self.segments == Segments::Joined).then(|| {
            // `struct __sk_buff`: gso_size stands at 176.
            let mut context = vec![0; 192];
            context[176..180].copy_from_slice(&1400u32.to_ne_bytes());
            context
        })
    }
}

/// What a test run says that a device says: it takes every packet for an Ethernet frame (`eth_type_trans`).
fn test_run_protocol(packet: &[u8]) -> Option<u16> {
    let kind = packet.get(12..14)?;
    match u16::from_be_bytes([kind[0], kind[1]]) {
        kind @ 0x0600.. => Some(kind),
        _ if packet.get(14..16) == Some(&[0xff, 0xff]) => Some(1),
        _ => Some(4),
    }
}

/// What a program did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Drop,
}

/// The policy of one slot: prefixes with set and flags, and the sets that the gated port's policy allows.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(crate) v4: &'a [([u8; 4], u32, SourceValue)],
    pub(crate) v6: &'a [([u8; 16], u32, SourceValue)],
    pub(crate) sets: &'a [u32],
}

pub(crate) const FAILSAFE: SourceValue = [0, SOURCE_FAILSAFE];

/// The loaded programs.
pub(crate) struct Kernel {
    bpf: Ebpf,
    filled: [fill::Filled; 2],
    /// The kernel keeps inner maps alive by itself; these are kept for tidiness of ownership.
    _tries4: Vec<LpmTrie<MapData, [u8; 4], SourceValue>>,
    _tries6: Vec<LpmTrie<MapData, [u8; 16], SourceValue>>,
}

impl Kernel {
    /// Loads everything and fills both slots.
    pub(crate) fn load(port: u16, slots: [Slot<'_>; 2]) -> Self {
        let mut kernel = Self::open();
        let bpf = &mut kernel.bpf;
        let (mut tries4, mut tries6) = (Vec::new(), Vec::new());
        for (slot, content) in (0u32..).zip(slots) {
            let mut v4 = LpmTrie::create(64, 1).expect("a trie");
            for (address, length, value) in content.v4 {
                v4.insert(&Key::new(*length, *address), *value, 0)
                    .expect("an entry");
            }
            let mut v6 = LpmTrie::create(64, 1).expect("a trie");
            for (address, length, value) in content.v6 {
                v6.insert(&Key::new(*length, *address), *value, 0)
                    .expect("an entry");
            }
            let mut outer = ArrayOfMaps::try_from(bpf.map_mut("SRC4").expect("the map")).expect("its type");
            outer.set(slot, &v4, 0).expect("the slot");
            let mut outer = ArrayOfMaps::try_from(bpf.map_mut("SRC6").expect("the map")).expect("its type");
            outer.set(slot, &v6, 0).expect("the slot");
            tries4.push(v4);
            tries6.push(v6);
            let mut allowed: Allowed = [0; ALLOWED_WORDS];
            content
                .sets
                .iter()
                .for_each(|set| allowed[*set as usize / 64] |= 1 << (set % 64));
            let mut map: Array<_, Allowed> =
                Array::try_from(bpf.map_mut("ALLOWED").expect("the map")).expect("its type");
            map.set(allowed_entry(slot, POLICIES[slot as usize]), allowed, 0)
                .expect("the policy");
        }
        kernel._tries4 = tries4;
        kernel._tries6 = tries6;
        kernel
            .array("PORTS")
            .set(
                u32::from(port),
                with_port_index(with_port_index(0, 0, 1), 1, 2),
                0,
            )
            .expect("a port");
        kernel.judge(Destination::Any);
        kernel
    }

    /// Loads everything and fills nothing.
    pub(crate) fn open() -> Self {
        let mut bpf = EbpfLoader::new()
            .override_global("ATTACHMENT", &ATTACHMENT, true)
            .load(OBJECT)
            .expect("the object loads: root with CAP_BPF is needed");
        for name in PROGRAMS {
            match bpf.program_mut(name).expect("the program") {
                Program::Xdp(program) => program
                    .load()
                    .unwrap_or_else(|error| panic!("`{name}`: {error:#?}")),
                Program::SchedClassifier(program) => {
                    program
                        .load()
                        .unwrap_or_else(|error| panic!("`{name}`: {error:#?}"));
                }
                _ => panic!("`{name}` is of another type"),
            }
        }
        Self {
            bpf,
            filled: Default::default(),
            _tries4: Vec::new(),
            _tries6: Vec::new(),
        }
    }

    fn array(&mut self, name: &str) -> Array<&mut MapData, u64> {
        Array::try_from(self.bpf.map_mut(name).expect("the map")).expect("its type")
    }

    /// Which destinations are judged.
    pub(crate) fn judge(&mut self, destination: Destination) {
        let mut map: Array<_, u32> =
            Array::try_from(self.bpf.map_mut("POLICY").expect("the map")).expect("its type");
        for (slot, policy) in (0u32..).zip(POLICIES) {
            let entry = PolicyEntry::new(policy, destination).0;
            map.set(policy_entry(slot, ATTACHMENT, slot + 1), entry, 0)
                .expect("an entry");
            let entry = PolicyEntry::new(0, destination).0;
            map.set(policy_entry(slot, ATTACHMENT, 0), entry, 0)
                .expect("an entry");
        }
    }

    /// The one write that changes policy and mode.
    pub(crate) fn set(&mut self, slot: u32, mode: Mode, fragments: Fragments) {
        self.array("CFG")
            .set(CFG_WORD, ConfigWord::new(slot, mode, fragments, 1).0, 0)
            .expect("the word");
    }

    /// Coarse monotonic nanoseconds after which the policy only observes.
    pub(crate) fn deadline(&mut self, nanoseconds: u64) {
        self.array("CFG")
            .set(CFG_DEADLINE, nanoseconds, 0)
            .expect("the deadline");
    }

    /// Makes an address one of this host.
    pub(crate) fn own(&mut self, address: IpAddr) {
        let key = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let mut map: HashMap<_, [u8; 16], u8> =
            HashMap::try_from(self.bpf.map_mut("LOCAL").expect("the map")).expect("its type");
        map.insert(key, 1, 0).expect("an entry");
    }

    /// Runs one program on one packet, which must raise exactly one counter by one (none when `Off`).
    /// `None` where the kernel refuses to test with so short a packet.
    pub(crate) fn run(&self, name: &str, packet: &[u8]) -> Option<(Verdict, Option<(Reason, Outcome)>)> {
        let before = self.counters();
        let verdict = self.verdict(name, packet, None)?;
        Some((verdict, risen(&before, &self.counters())))
    }

    /// As [`Kernel::run`], as a case comes to the program.
    pub(crate) fn run_view(
        &self,
        name: &str,
        view: &View<'_>,
    ) -> Option<(Verdict, Option<(Reason, Outcome)>)> {
        let before = self.counters();
        let verdict = self.verdict(name, view.packet, view.context().as_deref())?;
        Some((verdict, risen(&before, &self.counters())))
    }

    /// Runs one program on one packet and looks at nothing else; `None` where the kernel refuses to.
    pub(crate) fn verdict_of(&self, name: &str, view: &View<'_>) -> Option<Verdict> {
        self.verdict(name, view.packet, view.context().as_deref())
    }

    fn verdict(&self, name: &str, packet: &[u8], context: Option<&[u8]>) -> Option<Verdict> {
        let options = TestRunOptions {
            data_in: Some(packet),
            ctx_in: context,
            repeat: 1,
            ..TestRunOptions::default()
        };
        let result = match self.bpf.program(name).expect("the program") {
            Program::Xdp(program) => program.test_run(options),
            Program::SchedClassifier(program) => program.test_run(options),
            _ => panic!("`{name}` is of another type"),
        };
        let code = match result {
            Ok(result) => result.return_value,
            Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(22) => {
                return None;
            }
            Err(error) => panic!("`{name}`: {error:?}"),
        };
        match (name.starts_with("gate_xdp"), code as i32) {
            (true, 2) | (false, -1) => Some(Verdict::Pass),
            (true, 1) | (false, 2) => Some(Verdict::Drop),
            (_, other) => panic!("`{name}` returned {other}"),
        }
    }

    /// What one counter says, summed over the CPUs.
    pub(crate) fn counter(&self, entry: u32) -> u64 {
        let map: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.bpf.map("COUNTERS").expect("the map")).expect("its type");
        let values = map.get(&entry, 0).expect("the counter");
        values.iter().sum()
    }

    /// What all counters say together.
    pub(crate) fn counted(&self) -> u64 {
        (0..COUNTER_ENTRIES).map(|entry| self.counter(entry)).sum()
    }

    fn counters(&self) -> Vec<(Reason, Outcome, u64)> {
        let map: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.bpf.map("COUNTERS").expect("the map")).expect("its type");
        let mut all = Vec::new();
        for outcome in [Outcome::Enforced, Outcome::Observed] {
            for reason in Reason::ALL {
                let values = map
                    .get(&counter_entry(ATTACHMENT, reason, outcome), 0)
                    .expect("the counter");
                all.push((reason, outcome, values.iter().sum()));
            }
        }
        all
    }

    /// Instructions that the verifier walked through.
    pub(crate) fn verified_instructions(&self, name: &str) -> Option<u32> {
        let info = match self.bpf.program(name).expect("the program") {
            Program::Xdp(program) => program.info(),
            Program::SchedClassifier(program) => program.info(),
            _ => panic!("`{name}` is of another type"),
        };
        info.expect("the program's information")
            .verified_instruction_count()
    }
}

type Counted = (Reason, Outcome, u64);

/// The one counter that has risen, by one.
fn risen(before: &[Counted], after: &[Counted]) -> Option<(Reason, Outcome)> {
    let risen: Vec<_> = before
        .iter()
        .zip(after)
        .filter(|(before, after)| before.2 != after.2)
        .collect();
    assert!(risen.len() <= 1, "one packet, several counters: {risen:?}");
    risen.first().map(|(before, after)| {
        assert_eq!(after.2, before.2 + 1, "one packet was counted more than once");
        (after.0, after.1)
    })
}
