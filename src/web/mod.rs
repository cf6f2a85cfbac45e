//! The public web: what visitors of a mirror see. It only reads.

pub mod pages;
