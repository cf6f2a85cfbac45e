//! The lists of blocks that a root keeps: those of its bytes, of what they were before, and none where none are wanted.

use std::fs;
use std::path::Path;

use mirra::delta::blocks::kept_block;
use mirra::delta::rabin::Rabin;
use mirra::disk::index::Index;
use mirra::tree::chunker::Class;
use mirra::tree::hash::{ChunkId, FileId};
use mirra::tree::list::{Chunk, file_id};

use crate::fixture::{Dice, MODULE, World, mirra, text};

/// What cuts a text in memory: its id, and its list under a secret.
fn list_of(data: &[u8], secret: &[u8; 32]) -> (FileId, Vec<u32>) {
    let (rabin, block) = (Rabin::new(secret), kept_block(data.len() as u64).unwrap());
    let (mut rest, mut chunks, mut hashes) = (data, Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at(Class::Fine.cut(rest));
        chunks.push(Chunk { id: ChunkId::of(chunk), len: chunk.len() as u32 });
        rabin.list(chunk, block, &mut hashes);
        rest = tail;
    }
    (file_id(&chunks).unwrap(), hashes)
}

/// Checks that the home keeps the lists of just these contents, and says so.
#[track_caller]
fn check(home: &Path, kept: &[&[u8]], dropped: &[&[u8]]) {
    let index = Index::open(&home.join(".mirra/index.db")).unwrap();
    let reader = index.reader().unwrap();
    let module = reader.find_module(MODULE).unwrap().unwrap();
    let secret = reader.block_secret().unwrap();
    assert!(secret.is_some() || kept.is_empty());
    let secret = secret.unwrap_or_default();
    assert!(kept.is_empty() || secret != [0; 32]);
    let mut bytes = 0;
    for data in kept {
        let (id, wanted) = list_of(data, &secret);
        assert!(reader.block_list(module, &id).unwrap().as_ref() == Some(&wanted), "of {} bytes", data.len());
        bytes += 4 * wanted.len();
    }
    for data in dropped {
        assert!(reader.block_list(module, &list_of(data, &secret).0).unwrap().is_none(), "of {} bytes", data.len());
    }
    assert_eq!(reader.block_bytes(module).unwrap(), bytes as u64);
    drop((reader, index));
    let status = mirra(home, &["status", "--json"]).expect(0).json();
    assert_eq!(status["modules"][0]["block_lists_bytes"], bytes);
    let shown = mirra(home, &["status"]).expect(0).stdout;
    assert_eq!(shown.contains("block lists"), bytes > 0, "{shown}");
}

#[test]
fn what_a_file_held_is_known_after_it_has_changed() {
    let world = World::empty();
    let mut dice = Dice(1);
    let [one, small, next] = [60_000, 1_500, 70_000].map(|len| text(&mut dice, len));
    let at = world.tree().join("f");
    fs::write(&at, &one).unwrap();
    fs::write(world.tree().join("small"), &small).unwrap();
    world.share().expect(0);
    check(&world.root(), &[&one, &small], &[&next]);
    fs::write(&at, &next).unwrap();
    world.publish().expect(0);
    check(&world.root(), &[&one, &small, &next], &[]);
    fs::remove_file(&at).unwrap();
    world.publish().expect(0);
    check(&world.root(), &[&one, &small, &next], &[]);
}

#[test]
fn nodes_keep_no_lists() {
    let content = text(&mut Dice(2), 50_000);
    let world = World::new(|tree| fs::write(tree.join("f"), &content).unwrap());
    world.sync("node").expect(0);
    check(&world.node("node"), &[], &[&content]);
}

#[test]
fn lists_go_when_the_owner_wants_none_and_come_with_what_is_read_later() {
    let world = World::empty();
    let mut dice = Dice(3);
    let [one, two, three] = [20_000, 30_000, 40_000].map(|len| text(&mut dice, len));
    fs::write(world.tree().join("one"), &one).unwrap();
    world.share().expect(0);
    check(&world.root(), &[&one], &[]);
    let config = world.root().join(".mirra/Mirra.toml");
    let wanted = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{wanted}block_lists = false\n")).unwrap();
    fs::write(world.tree().join("two"), &two).unwrap();
    world.publish().expect(0);
    check(&world.root(), &[], &[&one, &two]);
    world.share().expect(0);
    assert!(
        fs::read_to_string(&config).unwrap().ends_with("block_lists = false\n"),
        "sharing it again changes nothing"
    );
    fs::write(&config, wanted).unwrap();
    fs::write(world.tree().join("three"), &three).unwrap();
    world.publish().expect(0);
    let index = Index::open(&world.root().join(".mirra/index.db")).unwrap();
    let reader = index.reader().unwrap();
    let (module, secret) = (reader.find_module(MODULE).unwrap().unwrap(), reader.block_secret().unwrap().unwrap());
    let (id, list) = list_of(&three, &secret);
    assert!(reader.block_list(module, &id).unwrap() == Some(list));
}
