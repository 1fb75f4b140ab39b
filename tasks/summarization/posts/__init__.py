"""The language of the world's posts: words, facts, and the sentences that state them."""
