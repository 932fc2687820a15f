-- Which of several servers that share the books a request runs on; nothing where they are in a file.
ALTER TABLE reservations ADD COLUMN replica TEXT NOT NULL DEFAULT '';
