//! Signed objects under fixed keys.

use mirra::tree::codec::encode;
use mirra::tree::dir::{Built, build};
use mirra::tree::hash::{Authority, HeadId, ModuleId, authority_text};
use mirra::tree::page::Discard;
use mirra::tree::signed::{Beat, Certificate, Envelope, FORMAT, Head, Payload, PublicKey, RootFile};
use serde_json::{Value, json};

use super::{check, hex, key};

/// When everything in the vectors was signed, Unix milliseconds.
pub(super) const NOW: u64 = 1_700_000_000_000;

fn public(byte: u8) -> PublicKey {
    PublicKey(key(byte).verifying_key().to_bytes())
}

pub(super) fn root_file() -> RootFile {
    let (root_keys, head_keys) = (vec![public(0x11)], vec![public(0x22)]);
    RootFile { version: 1, epoch: 0, threshold: 1, root_keys, head_keys, expires: None }
}

pub(super) fn authority() -> Authority {
    Authority::of(&encode(&root_file()))
}

pub(super) fn head(tree: Built, previous: Option<HeadId>) -> Head {
    Head {
        module: ModuleId::of(&authority(), "demo"),
        name: "demo".into(),
        epoch: 0,
        sequence: NOW,
        snapshot: tree.id,
        entries: tree.entries,
        bytes: tree.bytes,
        mode: 0o755,
        mtime_seconds: 1_700_000_000,
        mtime_nanos: 0,
        format: FORMAT,
        created: NOW,
        previous,
        allow_delete: false,
    }
}

pub(super) fn beat(head: &Head) -> Beat {
    let id = HeadId::of(&encode(head));
    let Head { module, epoch, sequence, .. } = *head;
    Beat { module, epoch, sequence, head: id, issued: NOW, expires: NOW + 86_400_000 }
}

fn signed<T: Payload>(what: &str, value: &T, keys: &[u8]) -> Value {
    let keys: Vec<_> = keys.iter().map(|byte| key(*byte)).collect();
    let envelope = Envelope::sign(value, &keys.iter().collect::<Vec<_>>());
    assert_eq!(Envelope::decode(&envelope.encode()).unwrap(), envelope);
    json!({ "what": what, "kind": T::KIND, "payload": hex(envelope.payload()), "envelope": hex(&envelope.encode()) })
}

#[test]
fn root_file_head_beat_and_certificate() {
    let empty = build(&[], &mut Discard).unwrap();
    let first = head(empty, None);
    let first_id = HeadId::of(&encode(&first));
    let second = Head { sequence: NOW + 1, allow_delete: true, ..head(empty, Some(first_id)) };
    let mut both = vec![public(0x11), public(0x12)];
    both.sort();
    let rotated = RootFile { version: 2, epoch: 1, threshold: 2, root_keys: both, expires: Some(NOW), ..root_file() };
    let channel = mirra::protocol::noise::SecretKey::from_bytes([3; 32]).public();
    let certificate =
        Certificate { identity: public(0x33), channel, not_before: NOW - 86_400_000, not_after: NOW + 31_536_000_000 };
    let next = Envelope::sign(&rotated, &[&key(0x11), &key(0x12)]);
    assert_eq!(root_file().verify_next(&next).unwrap(), rotated);
    let pair = |byte| json!({ "seed": hex(&[byte; 32]), "public": hex(&public(byte).0) });
    let keys = [0x11, 0x12, 0x22, 0x33].map(pair);
    let made = json!({
        "about": "Signed objects. The secret seed of each Ed25519 key is one byte, 32 times.",
        "keys": keys,
        "authority": authority_text(&authority()),
        "module": ModuleId::of(&authority(), "demo").to_string(),
        "first_head": first_id.to_string(),
        "objects": [
            signed("root file, version 1", &root_file(), &[0x11]),
            signed("root file, version 2, signed by two keys", &rotated, &[0x11, 0x12]),
            signed("head of an empty tree", &first, &[0x22]),
            signed("head after it", &second, &[0x22]),
            signed("beat of the first head", &beat(&first), &[0x22]),
            signed("certificate of the X25519 key with the secret 32 times 03", &certificate, &[0x33]),
        ],
    });
    check("signed.json", &made);
}
