//! Every repeated job, one file a verb.
fn main() {}
