//! The tests of the whole: each runs the real application in process, on free ports, against fakes that
//! speak over real sockets.
#![cfg(test)]

mod app;
mod faults;
mod house;
mod openai;
mod process;
mod telemetry;
