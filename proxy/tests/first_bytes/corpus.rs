//! Inputs as text files: hexadecimal, 32 bytes a line; lines that start with `#` say why an input is there.

use std::{env, fmt::Write as _, fs, path::PathBuf};

/// The folder of a subject's inputs.
fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/first_bytes/corpus")
        .join(name)
}

/// As a file.
pub(crate) fn text(input: &[u8]) -> String {
    let mut text = String::new();
    for line in input.chunks(32) {
        for byte in line {
            write!(text, "{byte:02x}").expect("a string takes all");
        }
        text.push('\n');
    }
    text
}

/// From a file.
pub(crate) fn parse(text: &str) -> Vec<u8> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let digits: String = lines.collect();
    assert!(digits.len().is_multiple_of(2), "an odd number of digits");
    let pairs = (0..digits.len() / 2).map(|index| &digits[index * 2..index * 2 + 2]);
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal"))
        .collect()
}

/// FNV-1a.
pub(crate) fn hash(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Writes an input where that is wanted.
pub(crate) fn keep(name: &str, input: &[u8]) {
    if env::var_os("SALLYPORT_FUZZ_KEEP").is_none() {
        return;
    }
    let path = folder(name).join(format!("found_{:016x}.txt", hash(input)));
    fs::write(&path, text(input)).expect("the input is kept");
    println!("kept as `{}`", path.display());
}

/// All inputs of a subject with the names of their files.
pub(crate) fn inputs(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = fs::read_dir(folder(name))
        .expect("the folder of inputs")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("an input");
            (path.display().to_string(), parse(&text))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn an_input_is_read_as_it_is_written() {
    let input: Vec<u8> = (0..=255).collect();
    assert_eq!(parse(&format!("# why\n{}", text(&input))), input);
}
