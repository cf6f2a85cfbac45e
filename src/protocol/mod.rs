//! What peers say and when.
pub mod batch;
pub mod change;
pub mod descent;
pub mod fetch;
pub mod limits;
pub mod message;
pub mod packed;
pub mod sender;
mod sender_content;
#[cfg(test)]
mod transfer_tests;
