//! What can be asked of a model.

/// What is asked of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A chat, in any dialect.
    Chat,
    /// `/embeddings`.
    Embeddings,
    /// `/moderations`.
    Moderations,
    /// `/rerank`.
    Rerank,
    /// `/images/generations`.
    ImageGeneration,
    /// `/images/edits`.
    ImageEdit,
    /// `/images/variations`.
    ImageVariation,
    /// `/audio/speech`.
    Speech,
    /// `/audio/transcriptions`.
    Transcription,
    /// `/audio/translations`.
    Translation,
}

impl Operation {
    /// Every one.
    pub const ALL: [Operation; 10] = [
        Operation::Chat,
        Operation::Embeddings,
        Operation::Moderations,
        Operation::Rerank,
        Operation::ImageGeneration,
        Operation::ImageEdit,
        Operation::ImageVariation,
        Operation::Speech,
        Operation::Transcription,
        Operation::Translation,
    ];

    /// The name the OpenTelemetry conventions give it (`gen_ai.operation.name`), or one in their manner.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Chat => "chat",
            Operation::Embeddings => "embeddings",
            Operation::Moderations => "moderation",
            Operation::Rerank => "rerank",
            Operation::ImageGeneration => "image_generation",
            Operation::ImageEdit => "image_edit",
            Operation::ImageVariation => "image_variation",
            Operation::Speech => "speech",
            Operation::Transcription => "transcription",
            Operation::Translation => "translation",
        }
    }

    /// Its path below an OpenAI base URL.
    pub fn path(self) -> &'static str {
        match self {
            Operation::Chat => "/chat/completions",
            Operation::Embeddings => "/embeddings",
            Operation::Moderations => "/moderations",
            Operation::Rerank => "/rerank",
            Operation::ImageGeneration => "/images/generations",
            Operation::ImageEdit => "/images/edits",
            Operation::ImageVariation => "/images/variations",
            Operation::Speech => "/audio/speech",
            Operation::Transcription => "/audio/transcriptions",
            Operation::Translation => "/audio/translations",
        }
    }

    /// Its place in [`Operation::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// It makes pictures, which are paid for by the piece.
    pub fn makes_images(self) -> bool {
        matches!(self, Operation::ImageGeneration | Operation::ImageEdit | Operation::ImageVariation)
    }

    /// It listens, which is paid for by the second.
    pub fn listens(self) -> bool {
        matches!(self, Operation::Transcription | Operation::Translation)
    }

    /// Its body may be a form with files.
    pub fn takes_files(self) -> bool {
        self.listens() || matches!(self, Operation::ImageEdit | Operation::ImageVariation)
    }

    /// Its answer can be streamed.
    pub fn streams(self) -> bool {
        !matches!(
            self,
            Operation::Embeddings | Operation::Moderations | Operation::Rerank | Operation::ImageVariation
        )
    }
}
