//! The links, one file each, and the table of their names.

mod analyze;
mod analyze_and_label;
mod analyze_vcon;
mod check_and_tag;
mod datatrails;
mod delay;
mod detect_engagement;
mod diet;
mod exec;
mod expire_vcon;
mod http;
mod hugging_llm;
mod jq;
mod mask;
mod post_analysis_to_slack;
mod python;
mod sampler;
mod scitt;
mod shared;
mod tag;
mod tag_router;
#[cfg(test)]
mod tests;
mod transcribe;
mod webhook;
mod wtf_transcribe;

use serde_json::Value;

use crate::environment::Environment;
use crate::link::Link;
use crate::options::OptionsError;

/// Makes a link of a module from its options; `null` for none given.
type Make = fn(Value, &Environment) -> Result<Box<dyn Link>, OptionsError>;

/// A module.
struct Module {
    /// Its name, as in the Conserver's files.
    name: &'static str,
    /// Other names that old files use.
    aliases: &'static [&'static str],
    /// The names of its options, in groups.
    options: &'static [&'static [&'static str]],
    make: Make,
}

/// Each module.
const TABLE: &[Module] = &[
    Module { name: tag::MODULE, aliases: &["tag"], options: &[tag::OPTIONS], make: tag::make },
    Module {
        name: tag_router::MODULE,
        aliases: &["tag_router"],
        options: &[tag_router::OPTIONS],
        make: tag_router::make,
    },
    Module {
        name: sampler::MODULE,
        aliases: &["sampler"],
        options: &[sampler::OPTIONS],
        make: sampler::make,
    },
    Module {
        name: jq::LINK_MODULE,
        aliases: &["jq_link"],
        options: &[jq::LINK_OPTIONS],
        make: jq::make_link,
    },
    Module { name: jq::MODULE, aliases: &["jq"], options: &[jq::OPTIONS], make: jq::make },
    Module { name: mask::MODULE, aliases: &["mask"], options: &[mask::OPTIONS], make: mask::make },
    Module {
        name: expire_vcon::MODULE,
        aliases: &["expire_vcon"],
        options: &[expire_vcon::OPTIONS],
        make: expire_vcon::make,
    },
    Module { name: delay::MODULE, aliases: &["delay"], options: &[delay::OPTIONS], make: delay::make },
    Module {
        name: webhook::MODULE,
        aliases: &["webhook"],
        options: &[webhook::OPTIONS],
        make: webhook::make,
    },
    Module { name: http::MODULE, aliases: &["http"], options: &[http::OPTIONS], make: http::make },
    Module { name: exec::MODULE, aliases: &["exec"], options: &[exec::OPTIONS], make: exec::make },
    Module { name: analyze::MODULE, aliases: &["analyze"], options: analyze::OPTIONS, make: analyze::make },
    Module {
        name: analyze_and_label::MODULE,
        aliases: &["analyze_and_label"],
        options: analyze_and_label::OPTIONS,
        make: analyze_and_label::make,
    },
    Module {
        name: analyze_vcon::MODULE,
        aliases: &["analyze_vcon"],
        options: analyze_vcon::OPTIONS,
        make: analyze_vcon::make,
    },
    Module {
        name: check_and_tag::MODULE,
        aliases: &["check_and_tag"],
        options: check_and_tag::OPTIONS,
        make: check_and_tag::make,
    },
    Module {
        name: detect_engagement::MODULE,
        aliases: &["detect_engagement"],
        options: detect_engagement::OPTIONS,
        make: detect_engagement::make,
    },
    Module {
        name: hugging_llm::MODULE,
        aliases: &["hugging_llm_link"],
        options: hugging_llm::OPTIONS,
        make: hugging_llm::make,
    },
    Module {
        name: transcribe::MODULE,
        aliases: &["transcribe"],
        options: transcribe::OPTIONS,
        make: transcribe::make,
    },
    Module {
        name: transcribe::OPENAI,
        aliases: &["openai_transcribe"],
        options: transcribe::OPENAI_OPTIONS,
        make: transcribe::make_openai,
    },
    Module {
        name: transcribe::DEEPGRAM,
        aliases: &["deepgram_link", "deepgram"],
        options: transcribe::DEEPGRAM_OPTIONS,
        make: transcribe::make_deepgram,
    },
    Module {
        name: transcribe::GROQ,
        aliases: &["groq_whisper"],
        options: transcribe::GROQ_OPTIONS,
        make: transcribe::make_groq,
    },
    Module {
        name: transcribe::HUGGING_FACE,
        aliases: &["hugging_face_whisper"],
        options: transcribe::HUGGING_FACE_OPTIONS,
        make: transcribe::make_hugging_face,
    },
    Module {
        name: wtf_transcribe::MODULE,
        aliases: &["wtf_transcribe"],
        options: wtf_transcribe::OPTIONS,
        make: wtf_transcribe::make,
    },
    Module { name: diet::MODULE, aliases: &["diet"], options: &[diet::OPTIONS], make: diet::make },
    Module {
        name: post_analysis_to_slack::MODULE,
        aliases: &["post_analysis_to_slack"],
        options: &[post_analysis_to_slack::OPTIONS],
        make: post_analysis_to_slack::make,
    },
    Module { name: scitt::MODULE, aliases: &["scitt"], options: &[scitt::OPTIONS], make: scitt::make },
    Module {
        name: datatrails::MODULE,
        aliases: &["datatrails"],
        options: &[datatrails::OPTIONS],
        make: datatrails::make,
    },
    Module { name: python::MODULE, aliases: &["python"], options: &[python::OPTIONS], make: python::make },
];

/// Makes a link. The module's name is as in the Conserver's file: `links.tag`.
pub fn make(module: &str, options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let row = TABLE.iter().find(|row| row.name == module || row.aliases.contains(&module));
    let Some(row) = row else {
        if let Some(made) = python::unknown(module, &options, environment) {
            return made;
        }
        let names: Vec<&str> = modules().collect();
        return Err(OptionsError::new(format!(
            "there is no link module `{module}`; there are {}. One of your own in Python runs by `links.python`, or \
             when CONSERVER_PYTHON names the interpreter",
            names.join(", ")
        )));
    };
    (row.make)(options, environment)
}

/// The names of all modules.
pub fn modules() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.name)
}

/// The names of a module's options.
pub fn options_of(module: &str) -> Vec<&'static str> {
    let row = TABLE.iter().find(|row| row.name == module);
    row.into_iter().flat_map(|row| row.options.concat()).collect()
}
