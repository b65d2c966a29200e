//! The maps. Only user space writes them, but for counters, the budget of samples and the samples.

use aya_ebpf::{
    btf_maps::{ArrayOfMaps, LpmTrie},
    macros::{btf_map, map},
    maps::{Array, LruHashMap, PerCpuArray, RingBuf},
};
use sallyport_ebpf::{
    ALLOWED_ENTRIES, Allowed, CFG_ENTRIES, COUNTER_ENTRIES, EVENTS_BYTES, LOCAL_MAX, NEAR_ENTRIES,
    POLICY_ENTRIES, PREFIXES_MAX, SIEVE_ENTRIES, SourceValue, TOP_MAX, TopKey,
};

const PREFIXES: usize = PREFIXES_MAX as usize;
const LOCALS: usize = LOCAL_MAX as usize;

#[map]
pub(crate) static CFG: Array<u64> = Array::with_max_entries(CFG_ENTRIES, 0);
#[map]
pub(crate) static PORTS: Array<u64> = Array::with_max_entries(65_536, 0);
#[map]
pub(crate) static POLICY: Array<u32> = Array::with_max_entries(POLICY_ENTRIES, 0);
#[map]
pub(crate) static ALLOWED: Array<Allowed> = Array::with_max_entries(ALLOWED_ENTRIES, 0);
#[map]
pub(crate) static SIEVE: Array<u64> = Array::with_max_entries(SIEVE_ENTRIES, 0);
#[map]
pub(crate) static NEAR: Array<[u64; 2]> = Array::with_max_entries(NEAR_ENTRIES, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_ENTRIES, 0);
/// How many drops are still sampled one by one, set anew by user space now and then; it goes on falling below 0.
#[map]
pub(crate) static BUDGET: PerCpuArray<i64> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static TOP: LruHashMap<TopKey, u64> = LruHashMap::with_max_entries(TOP_MAX, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);
/// Events that found no room, of this CPU.
#[map]
pub(crate) static EVENTS_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// Keys of tries stand in network order.
#[btf_map]
pub(crate) static LOCAL: ArrayOfMaps<LpmTrie<[u64; 2], u32, LOCALS>, 1> = ArrayOfMaps::new();
#[btf_map]
pub(crate) static SRC4: ArrayOfMaps<LpmTrie<u32, SourceValue, PREFIXES>, 2> = ArrayOfMaps::new();
#[btf_map]
pub(crate) static SRC6: ArrayOfMaps<LpmTrie<[u64; 2], SourceValue, PREFIXES>, 2> = ArrayOfMaps::new();
