//! Checks on text, before it leaves or is kept. Pure and fast: no I/O, no clock, time linear in the text.
//!
//! The first check is [`mask`]: it finds what says who somebody is or how to pay with their money, and puts a
//! label in its place.

pub mod mask;
