//! The kept corpus of the fuzz targets, through the same properties, without a fuzzer.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/properties.rs"]
mod properties;

#[test]
fn the_kept_corpus_holds_for_every_target() {
    for (name, property) in properties::TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 3, "{name} has no corpus");
        for file in files {
            // Shown when the test fails.
            println!("{}", file.display());
            property(&fs::read(&file).unwrap());
        }
    }
}
