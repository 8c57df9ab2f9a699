"""Who gets in, and sees what: users, sessions, the proxy of a single sign-on, tokens that stand for ids."""
