//! The operations, and what they need to be told: keys, config, a command; and what they tell: progress, a report, a
//! failure.
//!
//! What is asked and answered: [`command`] (what can be asked for), [`report`] and [`status`] (what comes of it),
//! [`failure`] (or does not), [`monitor`] (meanwhile), in which [`words`] for people. What is set: [`config`] and
//! [`config_file`], [`keys`] (who this mirra is), [`init`] (the first run), [`register`] and [`manage`] (a module enters
//! the config, rests, and leaves it).
//!
//! What is done: [`executor`] carries out a command. A daemon's `crew` has a thread for each module beside it: `watching`
//! publishes what changes (hints of the disk go through [`gathering`], `root` looks, by which `block_lists` are made, and
//! signs), `following` takes what
//! is new above (its news are believed by `trust` and passed on; `node` brings them to the disk by `take_tree`,
//! `take_content` and `apply`). All share a `site`; each module has a `desk`, where its one operation at a time works.
//!
//! What others get: [`serve`] answers requests and `serve_follow` those who stay, from the [`catalog`] of modules as they
//! are [`served`], with what is pushed ([`offers`], [`packs`]); the web sees them through a [`front`] ([`checked`] files), from whom its
//! [`proxies`] say.

mod block_lists;
pub mod catalog;
pub mod checked;
pub mod clock;
pub mod command;
pub mod config;
pub mod config_file;
mod crew;
mod desk;
pub mod dial;
pub mod executor;
pub mod failure;
pub mod filter;
pub mod followers;
mod following;
pub mod front;
pub mod gate;
pub mod gathering;
pub mod ignore;
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
mod own;
pub mod pace;
pub mod packs;
mod past;
mod peers;
mod placing;
pub mod proxies;
pub mod register;
pub mod report;
mod root;
mod seeds;
pub mod serve;
mod serve_follow;
pub mod served;
mod shelf;
mod site;
mod spool;
pub mod status;
mod survey;
mod take_content;
mod take_part;
mod take_tree;
mod tally;
mod trust;
pub mod visits;
mod watching;
pub mod words;
mod worker;
