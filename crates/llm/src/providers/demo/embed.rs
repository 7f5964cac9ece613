//! The `embedding` model: each word and each three letters of a text push one of the vector's numbers up or
//! down, as a hash of them says. Texts that share words or parts of words so get vectors that are close.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chat::{
    Embedding, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage, EncodingFormat, Vector,
};

use super::{DemoOperation, Refusal, check, read, text};

const DEFAULT_DIMENSIONS: u64 = 256;
const MOST_DIMENSIONS: u64 = 2048;
const MOST_INPUTS: usize = 2048;

/// What a word weighs beside three letters, which are many more.
const WORD: f64 = 1.0;
const LETTERS: f64 = 0.35;

pub(super) fn answer(body: &[u8]) -> Result<EmbeddingResponse, Refusal> {
    let request: EmbeddingRequest = read(body)?;
    check::model(DemoOperation::Embeddings, &request.model)?;
    check::within("dimensions", request.dimensions, 1, MOST_DIMENSIONS)?;
    let base64 = match request.encoding_format {
        None | Some(EncodingFormat::Float) => false,
        Some(EncodingFormat::Base64) => true,
        Some(EncodingFormat::Other(_)) => {
            let message = "Invalid value for 'encoding_format': expected 'float' or 'base64'.";
            return Err(Refusal::invalid("encoding_format", "invalid_value", message));
        }
    };
    // `within` has bounded it to 2048.
    let dimensions = request.dimensions.unwrap_or(DEFAULT_DIMENSIONS) as usize;
    let inputs = inputs(&request.input)?;
    let tokens = inputs.iter().map(Input::tokens).sum();
    let data = (0..).zip(&inputs).map(|(index, input)| {
        let vector = input.vector(dimensions);
        let embedding = if base64 { Vector::Base64(encode(&vector)) } else { Vector::Floats(vector) };
        Embedding { object: "embedding".to_owned(), index, embedding, extra: chat::Extra::new() }
    });
    Ok(EmbeddingResponse {
        object: "list".to_owned(),
        data: data.collect(),
        model: request.model,
        usage: Some(EmbeddingUsage {
            prompt_tokens: tokens,
            total_tokens: tokens,
            ..EmbeddingUsage::default()
        }),
        ..EmbeddingResponse::default()
    })
}

/// One text to embed, or its tokens.
enum Input<'a> {
    Text(&'a str),
    Tokens(&'a [u32]),
}

fn inputs(input: &EmbeddingInput) -> Result<Vec<Input<'_>>, Refusal> {
    let inputs: Vec<Input<'_>> = match input {
        EmbeddingInput::Text(text) => vec![Input::Text(text)],
        EmbeddingInput::Texts(texts) => texts.iter().map(|text| Input::Text(text)).collect(),
        EmbeddingInput::Tokens(tokens) => vec![Input::Tokens(tokens)],
        EmbeddingInput::TokenArrays(arrays) => arrays.iter().map(|tokens| Input::Tokens(tokens)).collect(),
    };
    if inputs.len() > MOST_INPUTS {
        let message =
            format!("Invalid 'input': expected at most {MOST_INPUTS} inputs, got {}.", inputs.len());
        return Err(Refusal::invalid("input", "array_above_max_length", message));
    }
    if inputs.is_empty() || inputs.iter().any(Input::is_empty) {
        let message = "Invalid 'input': it must not be empty, nor hold an empty text.";
        return Err(Refusal::invalid("input", "empty_input", message));
    }
    Ok(inputs)
}

impl Input<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Input::Text(text) => text.is_empty(),
            Input::Tokens(tokens) => tokens.is_empty(),
        }
    }

    fn tokens(&self) -> u64 {
        match self {
            Input::Text(text) => text::count(text),
            Input::Tokens(tokens) => tokens.len() as u64,
        }
    }

    /// A vector of length 1.
    fn vector(&self, dimensions: usize) -> Vec<f32> {
        let mut sums = vec![0.0; dimensions];
        match self {
            Input::Text(text) => add_text(&mut sums, text),
            Input::Tokens(tokens) => {
                for token in *tokens {
                    add(&mut sums, &token.to_le_bytes(), WORD);
                }
            }
        }
        let length = |sums: &[f64]| sums.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length(&sums) < 1e-9 {
            // No letters, or features that cancel out: the text as a whole decides.
            match self {
                Input::Text(text) => add(&mut sums, text.as_bytes(), WORD),
                Input::Tokens(_) => add(&mut sums, b"tokens", WORD),
            }
        }
        let length = length(&sums);
        sums.iter().map(|x| (x / length) as f32).collect()
    }
}

fn add_text(sums: &mut [f64], text: &str) {
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = format!("^{}$", word.to_lowercase());
        add(sums, word.as_bytes(), WORD);
        let starts: Vec<usize> = word.char_indices().map(|(at, _)| at).chain([word.len()]).collect();
        for ends in starts.windows(4) {
            add(sums, &word.as_bytes()[ends[0]..ends[3]], LETTERS);
        }
    }
}

fn add(sums: &mut [f64], feature: &[u8], weight: f64) {
    let hash = text::hash(feature);
    let place = (hash % sums.len() as u64) as usize;
    sums[place] += if hash >> 63 == 0 { weight } else { -weight };
}

fn encode(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}
