//! A fake service over HTTP that answers as a closure says, and keeps what it was asked.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::reply::{Ending, Reply};
use crate::server::{Gate, Server};
use crate::upstream::{Received, read_request};
use crate::wire::Inbound;

/// Makes the answer to a request.
type Answer = dyn Fn(&Received) -> Reply + Send + Sync;

struct State {
    answer: Box<Answer>,
    requests: Mutex<Vec<Received>>,
}

/// A fake service on 127.0.0.1. It stops when it is dropped.
pub struct Web {
    server: Server,
    state: Arc<State>,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Web {
    /// Starts on a free port. The closure is asked for each request, once its body is whole. An answer whose ending
    /// is not [`Ending::Complete`] closes the connection.
    pub fn start(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Web {
        let state = Arc::new(State { answer: Box::new(answer), requests: Mutex::default() });
        let shared = Arc::clone(&state);
        let server =
            Server::start("testkit-web", move |stream, gate| serve(stream, gate, Arc::clone(&shared)));
        Web { server, state }
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Received> {
        self.state.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests so far, which are forgotten.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.state.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve(mut stream: TcpStream, mut gate: Gate, state: Arc<State>) {
    let mut inbound = Inbound::default();
    loop {
        let read = tokio::select! {
            // An error means that the whole fake is stopping.
            _ = gate.wait_for(|open| !open) => return,
            read = read_request(&mut inbound, &mut stream, 0) => read,
        };
        let Ok(Some(received)) = read else { return };
        let reply = (state.answer)(&received);
        state.requests.lock().unwrap_or_else(PoisonError::into_inner).push(received);
        tokio::time::sleep(reply.delay).await;
        // The peer may have gone: the next read tells.
        let _ = stream.write_all(&reply.bytes()).await;
        if reply.ending != Ending::Complete {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Client;

    #[tokio::test]
    async fn answers_as_it_is_told_and_remembers() {
        let web = Web::start(|request| {
            let status = if request.method == "POST" { 201 } else { 404 };
            Reply::whole(status, "text/plain", request.body.clone())
        });
        let client = Client::new(web.url());
        let answer = client.post_json("/a?b=c", &[], "hello").await;
        assert_eq!((answer.status, answer.text()), (201, "hello"));
        let asked = web.take();
        assert_eq!((asked[0].path.as_str(), asked.len(), web.requests().len()), ("/a?b=c", 1, 0));
    }
}
