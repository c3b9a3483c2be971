"""BERT's lower-case WordPiece as a tokenizer that transformers loads: no [CLS], no [SEP], no special word in a text.

The library's own BertNormalizer departs from the public rules: it drops private-use characters, glues CJK extension E
to its neighbours, knows no final sigma and follows an older Unicode. So the rules are written out below.
"""

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

MAX_CHARACTERS = 200  # of a word; a longer one is unknown
CJK = (
    r"\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}\x{20000}-\x{2a6df}\x{2a700}-\x{2b73f}\x{2b740}-\x{2b81f}"
    r"\x{2b820}-\x{2ceaf}\x{2f800}-\x{2fa1f}"
)
WIDE = rf"[{CJK}\x{{2010}}-\x{{2027}}\x{{2e80}}-\x{{33ff}}\x{{ff00}}-\x{{ffef}}]"  # written without spaces around


def wordpiece(tokens: Sequence[str]) -> Tokenizer:
    """BERT's tokenizer with these tokens, in the order of their ids; it adds none to a text.

    Decoding leaves no space beside Chinese characters and full-width punctuation.

    Source: Devlin et al. 2018, the public tokenization.py.

    >>> tokenizer = wordpiece(["[PAD]", "[UNK]", "[SEP]", "今", "天", "you", "##r", "[", "]", "sep"])
    >>> tokenizer.encode("今天 Your[SEP]").tokens
    ['今', '天', 'you', '##r', '[', 'sep', ']']
    >>> tokenizer.decode([3, 4, 5, 6])
    '今天your'
    """
    vocabulary = {token: i for i, token in enumerate(tokens)}
    model = models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=MAX_CHARACTERS)  # noqa: S106
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"[\t\n\r\p{Zs}]"), " "),
            normalizers.Replace(Regex(r"[\x{fffd}\p{Cc}\p{Cf}]"), ""),
            # what str.lower does at the end of a Greek word
            normalizers.Replace(
                Regex(r"(?<=\p{Cased}|\p{Cased}\p{Case_Ignorable})Σ(?!\p{Case_Ignorable}*\p{Cased})"), "ς"
            ),
            normalizers.Lowercase(),
            normalizers.NFD(),
            normalizers.Replace(Regex(r"\p{Mn}"), ""),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(rf"[!-/:-@\[-`{{-~\p{{P}}{CJK}]"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(cleanup=True),
            decoders.Fuse(),
            decoders.Replace(Regex(rf"(?<={WIDE}) | (?={WIDE})"), ""),
        ]
    )
    return tokenizer
