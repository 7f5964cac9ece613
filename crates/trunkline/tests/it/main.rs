//! The tests of the whole: each runs the real application in process, on free ports, against fakes that
//! speak over real sockets.
#![cfg(test)]

mod admin;
mod admin_api;
mod app;
mod conversations;
mod dialects;
mod door;
mod faults;
mod house;
mod media;
mod money;
mod nginx;
mod openai;
mod process;
mod routing;
mod shared_limits;
mod telemetry;
