//! The files of `tests/vectors`: made anew and compared. `MIRRA_WRITE_VECTORS=1` writes them instead, which is right only
//! when PROTOCOL.md says that the format changes.

mod blocks;
mod example;
mod signed;
mod tree;
mod wire;

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use serde_json::Value;

/// Whether files are to be written and not compared.
fn writes() -> bool {
    std::env::var_os("MIRRA_WRITE_VECTORS").is_some_and(|value| value == "1")
}

fn at_home(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares what was made with the file `name`, value by value.
fn check(name: &str, made: &Value) {
    let path = at_home("tests/vectors").join(name);
    if writes() {
        std::fs::write(&path, format!("{made:#}\n")).unwrap();
        return;
    }
    let kept = kept(name);
    let (Value::Object(kept), Value::Object(made)) = (&kept, made) else { panic!("{name} holds no object") };
    assert_eq!(kept.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>(), "parts of {name}");
    for (part, made) in made {
        match (&kept[part], made) {
            (Value::Array(kept), Value::Array(made)) => {
                for (i, (kept, made)) in kept.iter().zip(made).enumerate() {
                    assert_eq!(kept, made, "{name}: {part}, number {i}");
                }
                assert_eq!(kept.len(), made.len(), "{name}: {part}");
            }
            (kept, made) => assert_eq!(kept, made, "{name}: {part}"),
        }
    }
}

/// What the file `name` holds; nothing if it is not there.
fn kept(name: &str) -> Value {
    let text = std::fs::read_to_string(at_home("tests/vectors").join(name)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()
}

/// Bytes that everybody can make: BLAKE3 of `label`, in its extended form.
fn noise(label: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The Ed25519 key whose secret seed is 32 times `byte`.
fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32])
}
