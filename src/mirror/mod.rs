//! The operations, and what they need to be told: keys, config, a command; and what they tell: progress, a report, a
//! failure.
//!
//! Read in this order: [`command`] (what can be asked for), [`report`] and [`status`] (what comes of it), [`failure`] (or does not),
//! [`monitor`] (meanwhile), [`config`] and [`config_file`] (what is set), [`keys`] (who this mirra is), [`init`] (the
//! first run), [`register`] and [`manage`] (a module enters the config, rests, and leaves it), [`executor`] (a command is carried out).

pub mod catalog;
pub mod clock;
pub mod command;
pub mod config;
pub mod config_file;
mod crew;
mod desk;
pub mod dial;
pub mod executor;
pub mod failure;
mod following;
pub mod gate;
pub mod gathering;
pub mod init;
pub mod keys;
mod ledger;
mod line;
pub mod listing;
pub mod look;
pub mod manage;
pub mod monitor;
mod node;
pub mod offers;
mod overview;
pub mod packs;
pub mod pace;
mod past;
mod peers;
pub mod register;
pub mod report;
mod root;
pub mod serve;
mod serve_follow;
pub mod served;
mod shelf;
mod site;
mod spool;
pub mod status;
mod survey;
mod take_content;
mod take_tree;
mod trust;
mod watching;
