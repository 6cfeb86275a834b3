import { useTranslation } from "react-i18next";

/** The promise, drawn: a line that passes through every machine that fails and goes on. */
export function BrandPanel() {
  const { t } = useTranslation();
  return (
    <aside className="brand-panel">
      <svg
        viewBox="0 0 600 420"
        fill="none"
        aria-hidden="true"
        preserveAspectRatio="xMidYMid slice"
      >
        <path
          className="brand-line-faint"
          d="M-20 92C90 92 92 172 196 172s120-120 224-120 96 70 200 70"
        />
        <path
          className="brand-line-faint"
          d="M-20 352c120 0 128-64 226-64s112 84 206 84 116-52 208-52"
        />
        <path
          className="brand-line"
          d="M-20 232C86 232 100 150 202 150s104 142 204 142c56 0 48-92 94-92"
        />
        <circle className="brand-node" cx="202" cy="150" r="9" />
        <circle className="brand-node" cx="406" cy="292" r="9" />
        <circle className="brand-dot" cx="500" cy="200" r="11" />
      </svg>
      <p>{t("auth.promise")}</p>
      <small>{t("auth.promiseDetail")}</small>
    </aside>
  );
}
