//! Forms with files (`multipart/form-data`, RFC 7578).

use bytes::{BufMut as _, Bytes, BytesMut};

/// Something that stands in no file by chance, and is checked not to.
const BOUNDARY: &str = "trunkline-3f1b8a52c6d94e07";

/// A form.
#[derive(Debug, Default)]
pub(in crate::links) struct Form {
    parts: Vec<(String, Bytes)>,
}

impl Form {
    /// Adds a field.
    pub(in crate::links) fn text(mut self, name: &str, value: &str) -> Self {
        let head = format!("Content-Disposition: form-data; name=\"{}\"\r\n", quoted(name));
        self.parts.push((head, Bytes::copy_from_slice(value.as_bytes())));
        self
    }

    /// Adds a file.
    pub(in crate::links) fn file(
        mut self,
        name: &str,
        file_name: &str,
        media_type: &str,
        content: Bytes,
    ) -> Self {
        let media_type: String = media_type.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        let head = format!(
            "Content-Disposition: form-data; name=\"{}\"; filename=\"{}\"\r\nContent-Type: {media_type}\r\n",
            quoted(name),
            quoted(file_name)
        );
        self.parts.push((head, content));
        self
    }

    /// The value of `Content-Type`, and the body.
    pub(in crate::links) fn build(self) -> (String, Bytes) {
        let mut boundary = BOUNDARY.to_owned();
        while self.parts.iter().any(|(_, content)| contains(content, boundary.as_bytes())) {
            boundary.push_str(&format!("{:08x}", fastrand::u32(..)));
        }
        let size: usize = self.parts.iter().map(|(head, content)| head.len() + content.len() + 64).sum();
        let mut body = BytesMut::with_capacity(size + 64);
        for (head, content) in self.parts {
            body.put_slice(format!("--{boundary}\r\n{head}\r\n").as_bytes());
            body.put(content);
            body.put_slice(b"\r\n");
        }
        body.put_slice(format!("--{boundary}--\r\n").as_bytes());
        (format!("multipart/form-data; boundary={boundary}"), body.freeze())
    }
}

/// A name within quotes, as browsers write it.
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_written_byte_for_byte() {
        let form = Form::default().text("a", "1").file(
            "f",
            "x\"\r\n.wav",
            "audio/wav\r\nX: y",
            Bytes::from_static(b"\0\r\n"),
        );
        let (content_type, body) = form.build();
        assert_eq!(content_type, format!("multipart/form-data; boundary={BOUNDARY}"));
        let expected = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--{BOUNDARY}\r\n\
             Content-Disposition: form-data; name=\"f\"; filename=\"x%22%0D%0A.wav\"\r\nContent-Type: audio/wavX: y\r\n\r\n\
             \0\r\n\r\n--{BOUNDARY}--\r\n"
        );
        assert_eq!(body, expected);
    }

    #[test]
    fn a_file_that_holds_the_boundary_gets_another() {
        let (content_type, _) = Form::default().text("a", &format!("x--{BOUNDARY}--")).build();
        assert!(content_type.len() > format!("multipart/form-data; boundary={BOUNDARY}").len());
    }
}
