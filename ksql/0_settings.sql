-- Read the log from its beginning, as the app does; without it a query sees only what comes after it.
SET 'auto.offset.reset' = 'earliest';
