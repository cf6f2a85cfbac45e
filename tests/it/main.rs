//! Tests from outside: the program as a person calls it, the library as the program does.

mod channel;
mod cli;
mod control;
mod exits;
mod fixture;
mod home;
mod interrupted;
mod liar;
mod session;
mod sync;
