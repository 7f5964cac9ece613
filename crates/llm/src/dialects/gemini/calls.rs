//! Calls of functions and their responses, tied by ids.
//!
//! Older models make calls without ids, and their responses are told apart by the function's name and their
//! order. Every other dialect has ids, so they are given ones that are unique in the conversation.

use std::collections::{HashMap, HashSet, VecDeque};

/// The calls that were read, and those of them that have no response yet.
#[derive(Default)]
pub(super) struct Calls {
    taken: HashSet<String>,
    waiting: HashSet<String>,
    /// The ids of calls, by function; with those that were answered by id.
    by_name: HashMap<String, VecDeque<String>>,
    made: u32,
}

impl Calls {
    /// A call: its id, a new one when it has none or one that another has.
    pub fn call(&mut self, id: Option<String>, name: &str) -> String {
        let given = id.filter(|id| !id.is_empty() && !self.taken.contains(id));
        let id = given.unwrap_or_else(|| {
            loop {
                let id = format!("call_{}", self.made);
                self.made += 1;
                if !self.taken.contains(&id) {
                    break id;
                }
            }
        });
        self.taken.insert(id.clone());
        self.waiting.insert(id.clone());
        self.by_name.entry(name.to_owned()).or_default().push_back(id.clone());
        id
    }

    /// The id of the call that a response answers: the one it names, else the oldest of its function that
    /// waits.
    pub fn response(&mut self, id: Option<&str>, name: &str) -> Option<String> {
        if let Some(id) = id.filter(|id| self.waiting.remove(*id)) {
            return Some(id.to_owned());
        }
        let queue = self.by_name.get_mut(name)?;
        while let Some(id) = queue.pop_front() {
            if self.waiting.remove(&id) {
                return Some(id);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_find_their_calls() {
        let mut calls = Calls::default();
        assert_eq!(calls.call(None, "f"), "call_0");
        assert_eq!(calls.call(Some("call_1".into()), "f"), "call_1");
        assert_eq!(calls.call(None, "g"), "call_2");
        assert_eq!(calls.call(Some("call_1".into()), "f"), "call_3");
        assert_eq!(calls.response(Some("call_1"), "f").as_deref(), Some("call_1"));
        assert_eq!(calls.response(None, "f").as_deref(), Some("call_0"));
        assert_eq!(calls.response(Some("unknown"), "f").as_deref(), Some("call_3"));
        assert_eq!(calls.response(None, "f"), None);
        assert_eq!(calls.response(None, "h"), None);
    }
}
