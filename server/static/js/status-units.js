// Quantities as people read them.

import { t } from "./i18n.js";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  const power = count ? Math.min(UNITS.length - 1, Math.floor(Math.log2(count) / 10)) : 0;
  const value = count / 1024 ** power;
  return `${value.toFixed(value < 10 && power ? 1 : 0)} ${UNITS[power]}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return t("status.seconds", { value: value.toFixed(value < 1 ? 2 : 1) });
  if (value < 100) return t("status.seconds", { value: value.toFixed(0) });
  return value < 5400
    ? t("status.minutes", { value: (value / 60).toFixed(0) })
    : t("status.hours", { value: (value / 3600).toFixed(1) });
}
