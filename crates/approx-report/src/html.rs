//! Text in HTML.

/// The text as it must stand in HTML or XML, in elements and in attributes with either quote. Characters that XML has
/// not, such as most control characters, become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' => escaped.push(c),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        let text = "a/<b>&amp; \"c\" 'd'\u{1}\n";
        let escaped = escape(text);
        assert_eq!(escaped, "a/&lt;b&gt;&amp;amp; &quot;c&quot; &#39;d&#39;\u{fffd}\n");
        let page = format!("<p title=\"{escaped}\" class='{escaped}'>{escaped}</p>");
        let parsed = roxmltree::Document::parse(&page).unwrap();
        assert_eq!(parsed.root_element().text().unwrap(), text.replace('\u{1}', "\u{fffd}"));
        // Line ends are spaces in attributes.
        let attribute = text.replace('\u{1}', "\u{fffd}").replace('\n', " ");
        assert_eq!(parsed.root_element().attribute("title"), Some(attribute.as_str()));
        assert_eq!(parsed.root_element().attribute("class"), Some(attribute.as_str()));
    }
}
