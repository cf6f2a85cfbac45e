//! Tests from outside: the program as a person calls it, the library as the program does.
#![allow(clippy::disallowed_methods, reason = "tests make and read the trees that they judge by")]

mod block_lists;
mod channel;
mod cli;
mod control;
mod corpus;
mod demo;
mod exits;
mod filters;
mod fixture;
mod gardener;
mod home;
mod interrupted;
mod liar;
mod live;
mod ls;
mod manage;
mod metrics;
mod pages;
mod peers;
mod readme;
mod seed;
mod session;
mod sync;
mod tidy;
mod vectors;
mod watch;
mod web;
