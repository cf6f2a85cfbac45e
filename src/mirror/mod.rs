//! The operations, and what they need to be told: keys, config, a command; and what they tell: progress, a report, a
//! failure.
//!
//! Read in this order: [`command`] (what can be asked for), [`report`] (what comes of it), [`failure`] (or does not),
//! [`monitor`] (meanwhile), [`config`] and [`config_file`] (what is set), [`keys`] (who this mirra is).

pub mod catalog;
pub mod clock;
pub mod command;
pub mod config;
pub mod config_file;
pub mod dial;
pub mod failure;
pub mod gate;
pub mod keys;
mod line;
pub mod monitor;
pub mod report;
pub mod serve;
mod take_tree;
mod trust;
