//! The maps. Only user space writes them, but for the counters.

use aya_ebpf::{
    btf_maps::{ArrayOfMaps, LpmTrie},
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray},
};
use sallyport_ebpf::{
    ALLOWED_ENTRIES, Allowed, CFG_ENTRIES, COUNTER_ENTRIES, LOCAL_MAX, POLICY_ENTRIES, PREFIXES_MAX,
    SourceValue,
};

const PREFIXES: usize = PREFIXES_MAX as usize;

#[map]
pub(crate) static CFG: Array<u64> = Array::with_max_entries(CFG_ENTRIES, 0);
#[map]
pub(crate) static PORTS: Array<u64> = Array::with_max_entries(65_536, 0);
#[map]
pub(crate) static POLICY: Array<u32> = Array::with_max_entries(POLICY_ENTRIES, 0);
#[map]
pub(crate) static ALLOWED: Array<Allowed> = Array::with_max_entries(ALLOWED_ENTRIES, 0);
#[map]
pub(crate) static LOCAL: HashMap<[u8; 16], u8> = HashMap::with_max_entries(LOCAL_MAX, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_ENTRIES, 0);
#[btf_map]
pub(crate) static SRC4: ArrayOfMaps<LpmTrie<[u8; 4], SourceValue, PREFIXES>, 2> = ArrayOfMaps::new();
#[btf_map]
pub(crate) static SRC6: ArrayOfMaps<LpmTrie<[u8; 16], SourceValue, PREFIXES>, 2> = ArrayOfMaps::new();
