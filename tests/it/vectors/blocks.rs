//! Short hashes: the polynomial of a secret, hashes of blocks under it, short ids, gaps.

use mirra::delta::rabin::Rabin;
use mirra::protocol::short::{ShortIds, block_hashing, pack_gaps, pack_hashes};
use mirra::tree::hash::ChunkId;
use serde_json::json;

use super::{check, hex, noise};

/// What the text says of Rabin's hash, bit by bit.
struct Slow {
    factor: u64,
    polynomial: u64,
}

impl Slow {
    fn new(secret: &[u8; 32]) -> Self {
        let mut bytes = [0; 8 * 1_000];
        blake3::Hasher::new_keyed(secret).update(b"mirra v1 rabin").finalize_xof().fill(&mut bytes);
        let mut numbers = bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_be_bytes(*bytes));
        let factor = numbers.next().unwrap() | 1;
        let candidates = numbers.map(|number| (number % (1 << 53)) | (1 << 53) | 1);
        Self { factor, polynomial: candidates.into_iter().find(|candidate| is_irreducible(*candidate)).unwrap() }
    }

    fn fingerprint(&self, block: &[u8]) -> u64 {
        let bits = block.iter().flat_map(|byte| (0..8).rev().map(move |bit| u64::from(byte >> bit & 1)));
        bits.fold(0, |print, bit| reduced(print << 1 | bit, self.polynomial))
    }

    fn hash(&self, block: &[u8]) -> u32 {
        let once = self.fingerprint(block).wrapping_mul(self.factor);
        u32::try_from((once ^ once >> 32).wrapping_mul(self.factor) >> 32).unwrap()
    }
}

fn reduced(value: u64, polynomial: u64) -> u64 {
    if value >> 53 & 1 == 1 { value ^ polynomial } else { value }
}

/// Whether x to the power 2^53 is x, and x + 1 divides nothing.
fn is_irreducible(polynomial: u64) -> bool {
    let square = |value: u64| {
        (0..53)
            .rev()
            .fold(0, |product, bit| reduced(product << 1, polynomial) ^ if value >> bit & 1 == 1 { value } else { 0 })
    };
    polynomial.count_ones() % 2 == 1 && (0..53).fold(2, |power, _| square(power)) == 2
}

#[test]
fn blocks() {
    let data = noise("blocks", 1_024);
    let secrets: Vec<_> = [[0; 32], [1; 32], *blake3::hash(b"a secret").as_bytes()]
        .iter()
        .map(|secret| {
            let (slow, rabin) = (Slow::new(secret), Rabin::new(secret));
            let blocks: Vec<_> = [&b""[..], b"\0", b"a", b"block", &data[..128], &data]
                .iter()
                .map(|block| {
                    assert_eq!(slow.hash(block), rabin.of(block));
                    let print = format!("{:014x}", slow.fingerprint(block));
                    json!({ "block": hex(block), "fingerprint": print, "hash": format!("{:08x}", rabin.of(block)) })
                })
                .collect();
            let (polynomial, factor) = (format!("{:014x}", slow.polynomial), format!("{:016x}", slow.factor));
            json!({ "secret": hex(secret), "factor": factor, "polynomial": polynomial, "blocks": blocks })
        })
        .collect();
    let connections: Vec<_> = [&b"a handshake"[..], &[7; 64]]
        .iter()
        .map(|binding| {
            let (ids, rabin) = (ShortIds::new(binding), block_hashing(binding));
            let chunks: Vec<_> = [&b"hello\n"[..], &data]
                .iter()
                .map(|chunk| ChunkId::of(chunk))
                .map(|id| json!({ "chunk": hex(id.as_bytes()), "short": hex(&ids.of(&id)) }))
                .collect();
            let mut hashes = Vec::new();
            rabin.list(&data[..1_000], 128, &mut hashes);
            json!({ "handshake_hash": hex(binding), "chunks": chunks,
                "blocks_of_128_of_the_first_1000_bytes": hex(&pack_hashes(&hashes)) })
        })
        .collect();
    let gaps = [(9_000u64, 2_500u64), (11_500, 0), (31_500, 1_000)];
    let about = "Hashes of blocks by a secret, and what is short on a connection: ids of chunks, and blocks as they travel. \
                 Numbers are hexadecimal; the data is BLAKE3 of `blocks` in its extended form.";
    check(
        "blocks.json",
        &json!({ "about": about, "secrets": secrets, "connections": connections,
        "gaps": gaps, "gaps_as_they_travel": pack_gaps(&gaps) }),
    );
}
