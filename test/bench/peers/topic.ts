import type { Place } from "./place.ts";

/** Questions that are put to the same subjects: a table, with a row for each subject, and a column for each figure. */
export interface Topic {
  readonly title: string;
  /** What the figures are in. */
  readonly unit: string;
  /** Whether the smaller figure is the better one. */
  readonly isLess: boolean;
  /** Key and name, in the order of rows; honkbun is the first. */
  readonly subjects: Readonly<Record<string, string>>;
  readonly questions: Readonly<Record<string, Question>>;
}

export interface Question {
  /** Of the figures that it finds. */
  readonly columns: readonly string[];
  /** How often it is asked at most: some take long, and differ little. */
  readonly rounds?: number;
  /** Measures once. Null where the subject cannot do it, or has not what it needs. */
  measure(subject: string, place: Place): Promise<readonly number[] | null>;
  /** What other processes do for it, by their role; each ends with the one that measures. */
  readonly helpers?: Readonly<Record<string, (subject: string, place: Place) => Promise<void>>>;
}
