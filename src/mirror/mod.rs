//! The operations, and what they need to be told: keys, config, a command; and what they tell: progress, a report, a
//! failure.
//!
//! Read in this order: [`command`] (what can be asked for), [`report`] (what comes of it), [`failure`] (or does not),
//! [`monitor`] (meanwhile), [`config`] and [`config_file`] (what is set), [`keys`] (who this mirra is), [`init`] (the
//! first run), [`register`] (a module enters the config), [`executor`] (a command is carried out).

pub mod catalog;
pub mod clock;
pub mod command;
pub mod config;
pub mod config_file;
pub mod dial;
pub mod executor;
pub mod failure;
pub mod gate;
pub mod gathering;
pub mod init;
pub mod keys;
mod ledger;
mod line;
pub mod listing;
pub mod monitor;
mod node;
pub mod register;
pub mod report;
mod root;
pub mod serve;
mod shelf;
mod survey;
mod take_content;
mod take_tree;
mod trust;
