//! mirra
