//! A compiled program and its results.

use std::fmt;

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};
use jaq_json::{Num, Val, read};

type Filter = jaq_core::compile::Filter<jaq_core::Native<data::JustLut<Val>>>;

/// A program, compiled once.
pub(super) struct Program(Filter);

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Program")
    }
}

impl Program {
    /// Reads a program; the error says where it is wrong.
    pub(super) fn compile(code: &str) -> Result<Self, String> {
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(defs).load(&arena, File { code, path: () });
        let modules = modules.map_err(|errors| format!("{:?}", errors.first().map(|(_, error)| error)))?;
        let filter = Compiler::default().with_funs(funs).compile(modules);
        let undefined = |errors: jaq_core::compile::Errors<&str, ()>| match errors
            .first()
            .and_then(|(_, all)| all.first())
        {
            Some((name, undefined)) => format!("{name} is not defined ({undefined:?})"),
            None => "it cannot be compiled".to_owned(),
        };
        filter.map(Program).map_err(undefined)
    }

    /// The first result for this text of JSON; none when there is none.
    pub(super) fn first(&self, text: &[u8]) -> Result<Option<Val>, String> {
        let input = read::parse_single(text).map_err(|error| error.to_string())?;
        let ctx = Ctx::<data::JustLut<Val>>::new(&self.0.lut, Vars::new([]));
        // Its words may quote what people said.
        let first = self.0.id.run((ctx, input)).map(unwrap_valr).next().transpose();
        first.map_err(|_| "the program fails for this vCon".to_owned())
    }
}

/// What Python counts as true, since the Conserver does: not null, false, 0 and what is empty.
pub(super) fn is_true(value: &Val) -> bool {
    match value {
        Val::Null => false,
        Val::Bool(value) => *value,
        Val::Num(Num::Int(n)) => *n != 0,
        Val::Num(number) => number.to_string().parse::<f64>().is_ok_and(|n| n != 0.0),
        Val::TStr(text) | Val::BStr(text) => !text.is_empty(),
        Val::Arr(items) => !items.is_empty(),
        Val::Obj(members) => !members.is_empty(),
    }
}

/// A result as the text of JSON.
pub(super) fn text(value: &Val) -> Vec<u8> {
    value.to_string().into_bytes()
}
