//! The programs in the kernel, with maps of their own that nothing pins, run on packets by
//! `BPF_PROG_TEST_RUN`.

mod fill;
mod view;

use crate::oracle::Answer;
use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    maps::{
        Array, ArrayOfMaps, HashMap, MapData, PerCpuArray, PerCpuValues, RingBuf,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{Program, ProgramError},
};
use sallyport_ebpf::{
    ALLOWED_WORDS, Allowed, CFG_DEADLINE, CFG_FALLBACK, CFG_WORD, COUNTER_ENTRIES, ConfigWord, Destination,
    Event, Fragments, Mode, NEAR_ENTRIES, Outcome, PolicyEntry, Reason, SOURCE_FAILSAFE, SourceValue,
    allowed_entry, counter_entry, near_entry, policy_entry, with_port_index,
};
use std::net::IpAddr;
pub(crate) use view::View;

/// Not 0, so that a program that ignores its number shows.
pub(crate) const ATTACHMENT: u32 = 3;
/// The policy of the gated port in slot 0 and slot 1.
const POLICIES: [u32; 2] = [1, 7];
/// The counters of those policies, in slot 0 and slot 1.
const ROWS: [u32; 2] = [64, 511];

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/prebuilt/sallyport-gate.o");
static BY_HELPER: &[u8] = aya::include_bytes_aligned!("../../../ebpf/prebuilt/sallyport-gate-by-helper.o");

/// The four programs.
pub(crate) const PROGRAMS: [&str; 4] = ["gate_xdp", "gate_xdp_nofrags", "gate_tc_l2", "gate_tc_l3"];

/// How the programs read packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    InPlace,
    ByHelper,
}

impl Reading {
    /// All that can be tried here.
    pub(crate) fn all() -> Vec<Self> {
        match Self::permitted() {
            Self::InPlace => vec![Self::InPlace, Self::ByHelper],
            Self::ByHelper => vec![Self::ByHelper],
        }
    }

    /// The one that the gate takes: no verifier lets a process without CAP_PERFMON (bit 38) read in place.
    pub(crate) fn permitted() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let set = u64::from_str_radix(set.expect("the effective set").trim(), 16).expect("hexadecimal");
        if set >> 38 & 1 == 1 {
            Self::InPlace
        } else {
            Self::ByHelper
        }
    }
}

/// What a program did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Drop,
}

/// The one counter that a packet raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raised {
    pub(crate) row: u32,
    pub(crate) reason: Reason,
    pub(crate) outcome: Outcome,
}

impl Raised {
    /// Its place in the map.
    pub(crate) fn entry(self) -> u32 {
        counter_entry(self.row, self.reason, self.outcome)
    }
}

/// All that can be seen of what a program did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doing {
    pub(crate) verdict: Verdict,
    pub(crate) raised: Option<Raised>,
}

impl Doing {
    /// What an answer of the oracle comes to where a slot of [`Kernel::install`] counts.
    pub(crate) fn of(answer: Answer, slot: u32) -> Self {
        let verdict = if answer.drops {
            Verdict::Drop
        } else {
            Verdict::Pass
        };
        let raised = answer.counted.map(|counted| Raised {
            row: counted.list.map_or(ATTACHMENT, |list| fill::row(slot, list)),
            reason: counted.reason,
            outcome: counted.outcome,
        });
        Self { verdict, raised }
    }
}

/// The policy of one slot: prefixes with set and flags, and the sets that the gated port's policy allows.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(crate) v4: &'a [([u8; 4], u32, SourceValue)],
    pub(crate) v6: &'a [([u8; 16], u32, SourceValue)],
    pub(crate) sets: &'a [u32],
}

pub(crate) const FAILSAFE: SourceValue = [0, SOURCE_FAILSAFE];

/// What a packet can meet: a reason to pass is always acted on.
fn kinds() -> impl Iterator<Item = (Reason, Outcome)> {
    Reason::ALL
        .into_iter()
        .flat_map(|reason| [(reason, Outcome::Enforced), (reason, Outcome::Observed)])
        .filter(|(reason, outcome)| reason.drops() || *outcome == Outcome::Enforced)
}

/// The loaded programs.
pub(crate) struct Kernel {
    bpf: Ebpf,
    filled: [fill::Filled; 2],
    /// The kernel keeps inner maps alive by itself; these are kept for tidiness of ownership.
    _tries4: Vec<LpmTrie<MapData, [u8; 4], SourceValue>>,
    _tries6: Vec<LpmTrie<MapData, [u8; 16], SourceValue>>,
    own: Vec<IpAddr>,
    /// The rows of counters that packets may raise one of.
    rows: Vec<u32>,
}

impl Kernel {
    /// Loads everything and fills both slots.
    pub(crate) fn load(reading: Reading, port: u16, slots: [Slot<'_>; 2]) -> Self {
        let mut kernel = Self::open_reading(reading);
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
            let v4 = content
                .v4
                .iter()
                .map(|(address, length, _)| (IpAddr::from(*address), *length));
            let v6 = content
                .v6
                .iter()
                .map(|(address, length, _)| (IpAddr::from(*address), *length));
            fill::sieve(bpf, slot, v4.chain(v6));
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
        kernel.fill_own();
        kernel
    }

    /// Loads everything and fills nothing.
    pub(crate) fn open() -> Self {
        Self::open_reading(Reading::permitted())
    }

    /// As [`Kernel::open`], by the object that reads so.
    pub(crate) fn open_reading(reading: Reading) -> Self {
        let mut bpf = EbpfLoader::new()
            .override_global("ATTACHMENT", &ATTACHMENT, true)
            .load(match reading {
                Reading::InPlace => OBJECT,
                Reading::ByHelper => BY_HELPER,
            })
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
            own: Vec::new(),
            rows: vec![ATTACHMENT, ROWS[0], ROWS[1]],
        }
    }

    fn array(&mut self, name: &str) -> Array<&mut MapData, u64> {
        Array::try_from(self.bpf.map_mut(name).expect("the map")).expect("its type")
    }

    /// Which destinations are judged.
    pub(crate) fn judge(&mut self, destination: Destination) {
        let mut map: Array<_, u32> =
            Array::try_from(self.bpf.map_mut("POLICY").expect("the map")).expect("its type");
        for ((slot, policy), row) in (0u32..).zip(POLICIES).zip(ROWS) {
            let entry = PolicyEntry::new(policy, row, destination).0;
            map.set(policy_entry(slot, ATTACHMENT, slot + 1), entry, 0)
                .expect("an entry");
            let entry = PolicyEntry::new(0, 0, destination).0;
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

    /// Puts slot 1 on trial until a deadline (coarse monotonic nanoseconds), with slot 0 to fall back to.
    pub(crate) fn trial(&mut self, deadline_ns: u64, mode: Mode, fallback: Mode) {
        let word = ConfigWord::new(1, mode, Fragments::Pass, 2).on_trial();
        let fallback = ConfigWord::new(0, fallback, Fragments::Pass, 1);
        for (index, value) in [
            (CFG_DEADLINE, deadline_ns),
            (CFG_FALLBACK, fallback.0),
            (CFG_WORD, word.0),
        ] {
            self.array("CFG").set(index, value, 0).expect("an entry");
        }
    }

    /// Makes an address one of this host.
    pub(crate) fn own(&mut self, address: IpAddr) {
        self.own.push(address);
        self.fill_own();
    }

    /// Puts the addresses of this host in the map, in a trie of their own.
    fn fill_own(&mut self) {
        let room = self.own.len().max(1) as u32;
        let mut trie: LpmTrie<_, [u8; 16], u32> = LpmTrie::create(room, 1).expect("a trie");
        for address in &self.own {
            let key = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            trie.insert(&Key::new(128, key), 1, 0).expect("an entry");
        }
        let mut outer = ArrayOfMaps::try_from(self.bpf.map_mut("LOCAL").expect("the map")).expect("its type");
        outer.set(0, &trie, 0).expect("the slot");
        // Every second one is found near as well: the others must be found by the trie.
        let mut near = vec![[0u64; 2]; NEAR_ENTRIES as usize];
        for address in self.own.iter().step_by(2) {
            let whole = match address {
                IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
                IpAddr::V6(address) => u128::from(*address),
            };
            let words = [(whole >> 64) as u64, whole as u64];
            near[near_entry(words) as usize] = words;
        }
        let mut map: Array<_, [u64; 2]> =
            Array::try_from(self.bpf.map_mut("NEAR").expect("the map")).expect("its type");
        for (index, words) in (0..).zip(near) {
            map.set(index, words, 0).expect("an entry");
        }
    }

    /// Gives the drops that come next so many events.
    pub(crate) fn budget(&mut self, samples: i64) {
        let cpus = aya::util::nr_cpus().expect("the number of CPUs");
        let values = PerCpuValues::try_from(vec![samples; cpus]).expect("one a CPU");
        let mut map: PerCpuArray<_, i64> =
            PerCpuArray::try_from(self.bpf.map_mut("BUDGET").expect("the map")).expect("its type");
        map.set(0, values, 0).expect("the budget");
    }

    /// Takes the events that were recorded.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let mut ring = RingBuf::try_from(self.bpf.map_mut("EVENTS").expect("the map")).expect("its type");
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            let number = |at: usize| u32::from_ne_bytes(item[at..at + 4].try_into().expect("four bytes"));
            let port = |at: usize| u16::from_ne_bytes(item[at..at + 2].try_into().expect("two bytes"));
            assert_eq!(item.len(), size_of::<Event>());
            events.push(Event {
                at_ns: u64::from_ne_bytes(item[..8].try_into().expect("eight bytes")),
                source: item[8..24].try_into().expect("an address"),
                destination: item[24..40].try_into().expect("an address"),
                source_port: port(40),
                destination_port: port(42),
                row: number(44),
                attachment: number(48),
                reason: number(52),
                outcome: number(56),
                reserved: number(60),
            });
        }
        events
    }

    /// The estimate of a source's drops.
    pub(crate) fn top(&self, source: IpAddr) -> Option<u64> {
        let source = match source {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let mut key = [0u8; 24];
        key[..16].copy_from_slice(&source);
        key[16..20].copy_from_slice(&ATTACHMENT.to_ne_bytes());
        let map: HashMap<_, [u8; 24], u64> =
            HashMap::try_from(self.bpf.map("TOP").expect("the map")).expect("its type");
        map.get(&key, 0).ok()
    }

    /// Runs one program on one packet, which must raise exactly one counter by one (none when `Off`).
    /// `None` where the kernel refuses to test with so short a packet.
    pub(crate) fn run(&self, name: &str, packet: &[u8]) -> Option<(Verdict, Option<(Reason, Outcome)>)> {
        let before = self.counters();
        let verdict = self.verdict(name, packet, None)?;
        let raised = risen(&before, &self.counters());
        Some((verdict, raised.map(|raised| (raised.reason, raised.outcome))))
    }

    /// As [`Kernel::run`], as a case comes to the program.
    pub(crate) fn run_view(&self, name: &str, view: &View<'_>) -> Option<Doing> {
        let before = self.counters();
        let verdict = self.verdict(name, view.packet, view.context().as_deref())?;
        let raised = risen(&before, &self.counters());
        Some(Doing { verdict, raised })
    }

    /// Runs one program on one packet and looks at nothing else; `None` where the kernel refuses to.
    pub(crate) fn verdict_of(&self, name: &str, view: &View<'_>) -> Option<Verdict> {
        self.verdict(name, view.packet, view.context().as_deref())
    }

    /// Older kernels choose the size of the first buffer themselves, so there it goes without the one asked for.
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
                let chosen = context.filter(|_| name == "gate_xdp");
                return chosen.and_then(|_| self.verdict(name, packet, None));
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

    fn counters(&self) -> Vec<(Raised, u64)> {
        let kinds = self
            .rows
            .iter()
            .flat_map(|row| kinds().map(|(reason, outcome)| (*row, reason, outcome)));
        kinds
            .map(|(row, reason, outcome)| {
                let raised = Raised { row, reason, outcome };
                (raised, self.counter(raised.entry()))
            })
            .collect()
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

/// This thread on one CPU, until it is dropped.
pub(crate) struct Pinned(nix::sched::CpuSet);

impl Pinned {
    pub(crate) fn to_one_cpu() -> Self {
        let this = nix::unistd::Pid::from_raw(0);
        let before = nix::sched::sched_getaffinity(this).expect("the affinity");
        let first = (0..nix::sched::CpuSet::count()).find(|cpu| before.is_set(*cpu).unwrap_or(false));
        let mut one = nix::sched::CpuSet::new();
        one.set(first.expect("a CPU")).expect("a CPU of the set");
        nix::sched::sched_setaffinity(this, &one).expect("the affinity");
        Self(before)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &self.0);
    }
}

/// The one counter that has risen, by one.
fn risen(before: &[(Raised, u64)], after: &[(Raised, u64)]) -> Option<Raised> {
    let risen: Vec<_> = before
        .iter()
        .zip(after)
        .filter(|(before, after)| before.1 != after.1)
        .collect();
    assert!(risen.len() <= 1, "one packet, several counters: {risen:?}");
    risen.first().map(|(before, after)| {
        assert_eq!(after.1, before.1 + 1, "one packet was counted more than once");
        after.0
    })
}
