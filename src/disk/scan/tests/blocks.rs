//! Lists of blocks are those of the bytes that were read.

use super::*;
use crate::delta::blocks::kept_block;
use crate::delta::rabin::Rabin;
use crate::disk::index::blocks::lists_bytes_max;

const SECRET: [u8; 32] = [5; 32];

/// Text of so many bytes, which is cut finely whatever its length is.
fn text(seed: u8, len: usize) -> Vec<u8> {
    noise(seed, len).iter().map(|byte| b'a' + byte % 16).collect()
}

/// The list of a whole file in memory.
fn wanted(data: &[u8]) -> Option<Vec<u32>> {
    let (rabin, block) = (Rabin::new(&SECRET), kept_block(data.len() as u64)?);
    let (mut at, mut hashes) = (0, Vec::new());
    while at < data.len() {
        let len = Class::Fine.cut(&data[at..]);
        rabin.list(&data[at..at + len], block, &mut hashes);
        at += len;
    }
    Some(hashes)
}

fn id_of(data: &[u8]) -> FileId {
    cut_as(Class::Fine, data)
}

impl Lab {
    fn scan_with_lists(&self, known_bytes: u64) -> Scan {
        let rabin = Rabin::new(&SECRET);
        let blocks = Some(Blocks { rabin: &rabin, known_bytes });
        self.try_scan(&ScanOptions { blocks, ..self.options() }, &()).unwrap()
    }

    fn list(&self, id: &FileId) -> Option<Vec<u32>> {
        self.index.reader().unwrap().block_list(self.module, id).unwrap()
    }

    fn list_bytes(&self) -> u64 {
        self.index.reader().unwrap().block_bytes(self.module).unwrap()
    }
}

#[test]
fn files_of_every_length_have_the_list_of_their_bytes() {
    let lab = Lab::new();
    // One chunk, some, more than a buffer, and more than one thread reads.
    let lengths = [0, 1_023, 1_024, 1_900, 9_000, 300_000, 2_500_000, 17_000_000];
    let files: Vec<Vec<u8>> = (0u8..).zip(lengths).map(|(seed, len)| text(seed, len)).collect();
    files.iter().enumerate().for_each(|(i, data)| lab.write(&format!("d/{i}"), data));
    lab.scan_with_lists(0);
    let mut bytes = 0;
    for data in &files {
        let list = lab.list(&id_of(data));
        assert!(list == wanted(data), "{} bytes", data.len());
        bytes += 4 * list.map_or(0, |list| list.len() as u64);
    }
    assert_eq!(lab.list_bytes(), bytes);
    lab.scan_with_lists(0);
    assert_eq!(lab.list_bytes(), bytes, "what is there is not made again");
}

#[test]
fn a_changed_file_has_two_lists_and_a_moved_one_keeps_its_own() {
    let lab = Lab::new();
    let (old, new) = (text(1, 50_000), text(2, 60_000));
    lab.write("f", &old);
    lab.scan_with_lists(0);
    lab.write("f", &new);
    fs::create_dir(lab.tree().join("d")).unwrap();
    lab.scan_with_lists(0);
    fs::rename(lab.tree().join("f"), lab.tree().join("d/g")).unwrap();
    let found = lab.scan_with_lists(0);
    assert!(matches!(lab.entry(&found, "d/g").unwrap().body, Body::File { id, .. } if id == id_of(&new)));
    for data in [&old, &new] {
        assert!(lab.list(&id_of(data)) == wanted(data));
    }
}

#[test]
fn packed_files_and_scans_that_want_none_make_no_lists() {
    let lab = Lab::new();
    let (packed, plain) = (noise(1, 400_000), text(1, 400_000));
    lab.write("packed", &packed);
    lab.scan_with_lists(0);
    assert_eq!(lab.list(&cut_as(Class::Coarse, &packed)), None);
    lab.write("plain", &plain);
    lab.scan();
    assert_eq!((lab.list(&id_of(&plain)), lab.list_bytes()), (None, 0));
}

#[test]
fn what_is_beyond_the_bound_is_not_kept_and_there_is_room_again_for_later_files() {
    let lab = Lab::new();
    let m = lab.module;
    // Lists of contents that no file has fill all of the room.
    let room = lists_bytes_max(0);
    let mut batch = lab.index.batch().unwrap();
    let piece = vec![7; 256 * 1024];
    for i in 0..room / (4 * piece.len() as u64) {
        assert!(batch.put_block_list(m, &FileId::of(&i.to_le_bytes()), &piece, room).unwrap());
    }
    assert!(!batch.put_block_list(m, &FileId::of(b"one more"), &[1], room).unwrap());
    batch.commit().unwrap();
    let (first, second) = (text(1, 5_000), text(2, 5_000));
    lab.write("first", &first);
    lab.scan_with_lists(0);
    assert_eq!((lab.list(&id_of(&first)), lab.list_bytes()), (None, room));
    lab.write("second", &second);
    lab.scan_with_lists(room * 17);
    assert!(lab.list(&id_of(&second)) == wanted(&second));
}
