//! What the README says of settings and exit codes is what the program does.

use std::fs;

use mirra::{Config, Exit};

fn readme() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

#[test]
fn its_settings_are_understood() {
    let text = readme();
    let (_, rest) = text.split_once("```toml\n").unwrap();
    let (settings, _) = rest.split_once("```").unwrap();
    let config = Config::parse(settings, "Mirra.toml".as_ref()).unwrap();
    assert_eq!(config.modules.len(), 2);
}

#[test]
fn its_exit_codes_are_all_there_are() {
    let text = readme();
    let codes = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |")?.0.parse::<u8>().ok());
    assert!(codes.eq(Exit::ALL.iter().map(|exit| exit.code())));
}
